"""The CUDA kernels give the right numbers, with no GPU: their bodies run on the CPU, thread by thread."""

from __future__ import annotations

import ctypes

import pytest
import torch
from torch import Tensor

from optprune_fast.ops.cuda_support import KINDS
from optprune_fast.ops.masked_linear import cuda_impl, masked_linear, operation
from optprune_fast.ops.masked_linear.reference import masked_linear_reference
from optprune_fast.ops.words import pack
from optprune_fast.testing.poison import poison_all
from optprune_fast.testing.samples import samples

HALVES = (torch.float16, torch.bfloat16)
each_half = pytest.mark.parametrize("dtype", HALVES, ids=str)
each_dtype = pytest.mark.parametrize("dtype", KINDS, ids=str)


@pytest.mark.parametrize(("dtype", "case"), [
    pytest.param(dtype, case, id=f"{case.name}-{dtype}")
    for dtype in KINDS for case in samples("masked_linear", dtype)])
def test_every_sample_agrees_with_float64(emulated, judge_poisoned, dtype, case):
    judge_poisoned(emulated, case.arguments)


@pytest.mark.parametrize("backend", ["native", "numba"])
def test_sums_are_those_of_the_cpu_kernels_bit_by_bit(emulated, sample, backend):
    missing = operation.missing(backend)
    if missing:
        pytest.skip(missing)
    operands = sample(3, 65, 70, 513)
    assert torch.equal(emulated(*operands), masked_linear(*operands, backend=backend))


@pytest.mark.parametrize(("dtype", "blocks"), [
    *((torch.float32, n) for n in (2, 5, 12, 20)), *((torch.float16, n) for n in (4, 6, 9))])
def test_any_number_of_blocks_serves_all_tiles(emulated, sample, dtype, blocks):
    """12 tiles, or 6 of float16. The last step of one lies in shared memory where the first of the next one will."""
    operands = sample(3, 65, 65, 104, own=True, dtype=dtype)
    assert torch.equal(emulated(*operands, blocks=blocks), emulated(*operands))


@each_dtype
def test_rows_beyond_32_bits_are_found(emulated, sample, judge, far_apart, dtype):
    x, weight, words = sample(2, 3, 4, 65, dtype=dtype)
    operands = far_apart(x, 2**30 + 8), weight, words  # the step fits 32 bits, the place of the third row does not
    judge(emulated(*operands), operands)


# How rows lie decides how they are copied: 16 bytes at a time, two numbers, or one.
WAYS = {16: 72, 4: 74, 2: 75}  # bytes of a copy: columns of contiguous rows


@pytest.mark.parametrize("columns", [75, *WAYS.values()], ids=["float32", *(f"{way}-bytes" for way in WAYS)])
def test_nothing_past_the_end_of_memory_is_touched(emulator, sample, to_a_wall, in_a_fork, columns, request):
    dtype = torch.float32 if "float32" in request.node.name else torch.float16
    x, weight, words = map(to_a_wall, sample(2, 67, 69, columns, own=True, dtype=dtype))
    out = to_a_wall(torch.empty(2, 67, 69, dtype=dtype))
    addresses = [t.data_ptr() for t in (x, weight, words, out)]
    sizes = (2, 67, columns, 69, x.stride(0), x.stride(1), weight.stride(0), *words.stride()[:2])
    kind = KINDS[dtype]
    way = cuda_impl.WAYS["fma" if kind == 0 else "mma"]
    assert in_a_fork(lambda: emulator(3, False, way, kind, *addresses, *sizes)) == 0, "read or written past the end"


# ---- tensor cores


def whole_numbers(P: int, B: int, O: int, I: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:  # noqa: E741
    """Operands whose products, and their sums, are exact in every type."""
    generator = torch.Generator().manual_seed(I)
    x, weight = (torch.randint(-2, 3, (n, I), generator=generator).to(dtype) for n in (B, O))
    return x, weight, pack(torch.rand(P, O, I, generator=generator) < 0.1)


@each_half
@pytest.mark.parametrize("size", [(2, 128, 64, 32), (1, 128, 64, 256), (2, 129, 65, 33), (1, 16, 8, 16), (1, 3, 2, 97),
                                  (1, 130, 66, 63)], ids=str)
def test_whole_numbers_come_out_exactly(emulated, size, dtype):
    operands = whole_numbers(*size, dtype)
    assert torch.equal(emulated(*operands).double(), masked_linear_reference(*operands))


@pytest.mark.parametrize("i", [0, 1, 30, 31, 32, 63, 64, 69])
def test_a_weight_counts_where_its_bit_is_set_and_nowhere_else(emulated, i):
    x, weight = (torch.arange(1.0, n * 70 + 1).reshape(n, 70).remainder(7).half() for n in (17, 9))
    dense = torch.zeros(9, 9, 70, dtype=torch.bool)
    dense[torch.arange(9), torch.arange(9), i] = True  # candidate p keeps one weight, of output p
    expected = torch.zeros(9, 17, 9).half()
    expected[torch.arange(9), :, torch.arange(9)] = weight[:, i:i + 1] * x[:, i]
    assert torch.equal(emulated(x, weight, pack(dense)), expected)


@pytest.fixture
def copied(masked_linear_library):
    """copied(x, weight): bytes of a copy of their rows."""
    function = masked_linear_library.emulated_copy_width
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3]
    return lambda x, weight: function(x.data_ptr(), weight.data_ptr(), x.stride(0), x.stride(1), weight.stride(0))


@each_half
def test_every_way_to_copy_rows_gives_the_same_bits(emulated, sample, copied, dtype):
    operands = sample(2, 19, 11, 75, own=True, dtype=dtype)
    results = []
    for way, columns in WAYS.items():  # rows of as many columns, of which 75 are read
        x, weight = (torch.full((*t.shape[:-1], columns + 8), float("nan"), dtype=dtype)[..., :75].copy_(t)
                     for t in operands[:2])
        assert copied(x, weight) == way
        results.append(emulated(x, weight, operands[2]))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@each_half
def test_the_first_number_may_lie_anywhere(emulated, sample, judge, copied, dtype):
    for offset, way in ((0, 16), (8, 16), (2, 4), (4, 4), (1, 2)):
        x, weight, words = sample(1, 5, 3, 40, own=True, dtype=dtype)
        moved = torch.cat([x.new_full((offset,), float("nan")), x.flatten()])[offset:].view(x.shape)
        assert copied(moved, weight) == way
        judge(emulated(moved, weight, words), (x, weight, words))


def test_no_step_and_no_bit_give_zeros(emulated):
    x, weight = torch.ones(3, 0).half(), torch.ones(5, 0).half()
    assert torch.equal(emulated(x, weight, torch.empty(2, 5, 0, dtype=torch.int64)), torch.zeros(2, 3, 5).half())
    none = torch.zeros(2, 5, 1, dtype=torch.int64)
    poisoned, _ = poison_all((torch.ones(3, 9).half(), torch.ones(5, 9).half(), none))
    assert torch.equal(emulated(*poisoned), torch.zeros(2, 3, 5).half())
