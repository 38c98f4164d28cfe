"""rows_linear's CUDA kernels give the right numbers, with no GPU: their bodies run on the CPU, thread by thread."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optprune_fast.deploy import gpu
from optprune_fast.deploy.linear import SparseLinear
from optprune_fast.deploy.weight import SparseWeight
from optprune_fast.ops import masked_linear
from optprune_fast.ops.cuda_support import KINDS
from optprune_fast.ops.rows import Rows, dense_weight
from optprune_fast.ops.rows_linear import cuda_impl, operation, rows_linear, triton_impl
from optprune_fast.ops.rows_linear.reference import rows_linear_reference
from optprune_fast.ops.words import pack
from optprune_fast.runtime.dispatch import calls
from optprune_fast.testing.on_device import judge
from optprune_fast.testing.poison import poison_all
from optprune_fast.testing.sample import Sample
from optprune_fast.testing.samples import samples
from optprune_fast.testing.subjects import subjects

[SUBJECT] = [s for s in subjects() if s.name == "rows_linear"]
each_dtype = pytest.mark.parametrize("dtype", KINDS, ids=str)
each_layout = pytest.mark.parametrize("coded", [True, False], ids=["words", "columns"])
# The most samples that each kernel serves, of 65.
HELD = {("words", 4): (1, 2, 4, 8, 16, 65), ("words", 2): (1, 2, 4, 16, 32, 65),
        ("columns", 4): (1, 2, 4, 8, 16, 65), ("columns", 2): (1, 2, 4, 8, 16, 32, 65)}  # by bytes of a number


@pytest.fixture(scope="session")
def library(emulated_library: Callable[[str], ctypes.CDLL]) -> ctypes.CDLL:
    library = emulated_library("rows_linear")
    library.emulate_rows_linear.restype = ctypes.c_bool
    library.emulate_rows_linear.argtypes = [
        ctypes.c_uint, ctypes.c_int, *[ctypes.c_void_p] * 7, *[ctypes.c_int64] * 4, *[ctypes.c_bool] * 2]
    library.emulated_alignment.restype = ctypes.c_bool
    library.emulated_alignment.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_int]
    return library


@pytest.fixture
def emulated(library: ctypes.CDLL, emulate: Callable[..., Any]) -> Callable[..., Tensor]:
    """run(x, shape, *planes, bias): what cuda_impl makes of the call, with the emulator in the place of `_cuda`."""

    def run(*arguments: Any, blocks: int = 2) -> Tensor:
        function = functools.partial(library.emulate_rows_linear, blocks)
        return emulate("rows_linear", function, cuda_impl.launch)(*arguments)

    return run


def drawn(B: int, O: int, I: int, *, coded: bool, dtype: torch.dtype, density: float = 0.3,  # noqa: E741
          whole: bool = False) -> tuple[Any, ...]:
    """The arguments of a call. whole: numbers whose products, and their sums, are exact in every type."""
    generator = torch.Generator().manual_seed(B + 7 * O + 31 * I)
    kept = torch.rand(O, I, generator=generator) < density

    def numbers(*shape: int) -> Tensor:
        if whole:
            return torch.randint(-2, 3, shape, generator=generator).to(dtype)
        return torch.randn(shape, generator=generator).to(dtype)

    planes = gpu.rows_of(pack(kept), numbers(int(kept.sum())), (O, I), coded=coded)
    return (numbers(B, I), [O, I], *planes, numbers(O))


def every_case() -> Iterator[Any]:
    for dtype in KINDS:
        for case in samples("rows_linear", dtype):
            if case.arguments[0].dtype == dtype:
                yield pytest.param(case, id=f"{case.name}-{dtype}")


@pytest.mark.parametrize("case", list(every_case()))
def test_every_sample_agrees_with_float64(emulated: Callable[..., Tensor], case: Sample) -> None:
    poisoned, guards = poison_all(case.arguments)
    judge(SUBJECT, case, emulated(*poisoned), rows_linear(*case.arguments, backend="torch"))
    for guard in guards:
        guard.assert_intact()


@each_layout
@each_dtype
@pytest.mark.parametrize("inputs", [0, 1, 63, 64, 65, 127, 129, 255, 256, 257, 511, 513, 1023, 1025])
def test_columns_up_to_every_edge_count_and_no_further(emulated: Callable[..., Tensor], inputs: int, dtype: torch.dtype,
                                                       coded: bool) -> None:
    for count in (1, 3, 18):
        arguments, _ = poison_all(drawn(count, 5, inputs, coded=coded, dtype=dtype, density=0.1, whole=True))
        assert torch.equal(emulated(*arguments).double(), rows_linear_reference(*arguments))


@each_layout
@each_dtype
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65])
def test_any_number_of_samples_comes_out_exactly(emulated: Callable[..., Tensor], count: int, dtype: torch.dtype,
                                                 coded: bool) -> None:
    for outputs in (1, 16, 67):
        arguments, _ = poison_all(drawn(count, outputs, 140, coded=coded, dtype=dtype, whole=True))
        assert torch.equal(emulated(*arguments).double(), rows_linear_reference(*arguments))


@each_layout
@each_dtype
def test_slices_and_batches_of_columns_follow_one_another(emulated: Callable[..., Tensor], dtype: torch.dtype,
                                                          coded: bool) -> None:
    """Columns beyond those that a block, or a warp, holds at once."""
    for count, inputs in ((1, 16384 + 300), (1, 8192 + 300), (8, 2048 + 300), (16, 512 + 1024 + 9)):
        arguments = drawn(count, 3, inputs, coded=coded, dtype=dtype, density=0.01, whole=True)
        assert torch.equal(emulated(*arguments).double(), rows_linear_reference(*arguments))


# ---- which kernel runs


def kernels_of(library: ctypes.CDLL, emulated: Callable[..., Tensor], dtype: torch.dtype, coded: bool) -> list[int]:
    """The number of the kernel that serves 1, 2, … 65 samples."""
    out = []
    for count in range(1, 66):
        emulated(*drawn(count, 1, 1, coded=coded, dtype=dtype), blocks=1)
        out.append(library.emulated_kernel())
    return out


def test_every_kernel_runs_for_as_many_samples_as_it_holds(library: ctypes.CDLL,
                                                           emulated: Callable[..., Tensor]) -> None:
    found: list[int] = []
    for coded, dtype in itertools.product((True, False), KINDS):
        served = kernels_of(library, emulated, dtype, coded)
        last = [count for count in range(1, 66) if served[count - 1 : count + 1].count(served[count - 1]) == 1]
        assert tuple(last) == HELD["words" if coded else "columns", dtype.itemsize]
        found += [served[count - 1] for count in last]
    assert len(set(found)) == len(found) == 38


@each_layout
@each_dtype
def test_up_to_so_many_samples_the_others_show_in_no_bit(emulated: Callable[..., Tensor], dtype: torch.dtype,
                                                         coded: bool) -> None:
    x, *rest = drawn(16, 5, 700, coded=coded, dtype=dtype)
    most = 4 if coded and dtype != torch.float32 else 16
    alone = torch.cat([emulated(x[b : b + 1], *rest) for b in range(most)])
    for count in (2, 3, 4, 7, 9, 16)[: 3 if most == 4 else 6]:
        assert torch.equal(emulated(x[:count], *rest), alone[:count])


@each_layout
def test_sums_of_many_samples_of_float32_are_those_of_the_cpu_kernels_bit_by_bit(emulated: Callable[..., Tensor],
                                                                                 coded: bool) -> None:
    """One accumulator that takes the columns in ascending order."""
    x, shape, *planes, bias = drawn(17, 67, 700, coded=coded, dtype=torch.float32)
    weight = dense_weight(Rows(*planes), shape)
    words = pack(weight != 0)[None]
    backend = "native" if masked_linear.operation.missing("native") is None else "numba"
    sums = masked_linear.masked_linear(x, weight, words, backend=backend)[0]
    assert torch.equal(emulated(x, shape, *planes, bias), sums + bias)


@each_dtype
def test_by_columns_few_samples_never_meet_a_pruned_weight(emulated: Callable[..., Tensor], dtype: torch.dtype) -> None:
    kept = torch.arange(300) % 3 < torch.arange(1, 6)[:, None] % 3
    pruned = [0, *range(100, 200), 256]  # the first of each tile among them
    kept[:, pruned] = False
    values, x = torch.ones(int(kept.sum()), dtype=dtype), torch.ones(3, 300, dtype=dtype)
    x[:, pruned] = float("inf")
    planes = gpu.rows_of(pack(kept), values, kept.shape, coded=False)
    assert torch.equal(emulated(x, list(kept.shape), *planes, None), kept.sum(1).to(dtype).expand(3, 5))


@each_layout
@pytest.mark.parametrize("count", [1, 4, 70])
@each_dtype
@pytest.mark.parametrize("blocks", [1, 3, 7])
def test_any_number_of_blocks_serves_all_rows(emulated: Callable[..., Tensor], dtype: torch.dtype, blocks: int,
                                              count: int, coded: bool) -> None:
    arguments = drawn(count, 150, 70, coded=coded, dtype=dtype)
    assert torch.equal(emulated(*arguments, blocks=blocks), emulated(*arguments, blocks=12))


# ---- memory


@each_layout
@pytest.mark.parametrize("count", [2, 17])
@each_dtype
def test_rows_may_begin_anywhere(library: ctypes.CDLL, emulated: Callable[..., Tensor], dtype: torch.dtype, count: int,
                                 coded: bool) -> None:
    """x is read several numbers at once where its rows allow it, else one by one; no bit tells which."""
    x, *rest = drawn(count, 5, 139, coded=coded, dtype=dtype)
    results, found, together = [], set(), 16 if count > 16 else 4 * x.itemsize
    for offset, columns in ((0, 144), (0, 141), (4, 144), (1, 144), (8, 160)):
        memory = x.new_full((count * columns + offset,), float("nan"))
        moved = memory[offset:].view(count, columns)[:, :139].copy_(x)
        found.add(library.emulated_alignment(moved.data_ptr(), columns, x.itemsize, together))
        results.append(emulated(moved, *rest))
    assert found == {True, False}
    assert all(torch.equal(result, results[0]) for result in results)


@each_layout
@each_dtype
@pytest.mark.parametrize(("count", "step"), [(3, 2**30 + 8), (18, 2**27 + 8)])  # 32 bits hold a step, not the last row
def test_rows_of_x_beyond_32_bits_are_found(emulated: Callable[..., Tensor], far_apart: Callable[[Tensor, int], Tensor],
                                            count: int, step: int, dtype: torch.dtype, coded: bool) -> None:
    x, *rest = drawn(count, 4, 65, coded=coded, dtype=dtype)
    assert torch.equal(emulated(far_apart(x, step), *rest), emulated(x, *rest))


@each_layout
@pytest.mark.parametrize("count", [2, 20])
def test_values_beyond_32_bits_are_found(emulated: Callable[..., Tensor], far_apart: Callable[[Tensor, int], Tensor],
                                         count: int, coded: bool) -> None:
    first = 2**31 + 7
    x, shape, values, places, counts, starts, bias = drawn(count, 4, 65, coded=coded, dtype=torch.float16)
    near = emulated(x, shape, values, places, counts, starts.long(), bias)
    far = far_apart(torch.stack([values, values]), first).as_strided((first + len(values),), (1,))
    if not coded:
        places = far_apart(torch.stack([places, places]), first).as_strided((first + len(places),), (1,))
    assert torch.equal(emulated(x, shape, far, places, counts, starts.long() + first, bias), near)


@each_layout
@each_dtype
@pytest.mark.parametrize("count", [1, 3, 16, 67])
def test_nothing_past_the_end_of_memory_is_touched(library: ctypes.CDLL, to_a_wall: Callable[[Tensor], Tensor],
                                                   in_a_fork: Callable[..., int], count: int, dtype: torch.dtype,
                                                   coded: bool) -> None:
    x, shape, *planes, bias = drawn(count, 67, 139, coded=coded, dtype=dtype)
    given = [to_a_wall(t) if t.numel() else t for t in (x, *planes, bias, torch.empty(count, 67, dtype=dtype))]
    addresses = [t.data_ptr() for t in given]
    sizes = (count, shape[1], shape[0], shape[1])
    assert in_a_fork(lambda: library.emulate_rows_linear(3, KINDS[dtype], *addresses, *sizes, not coded, False)) == 0


# ---- what a layer takes


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """able(cuda=, triton=): whether these can serve a call."""

    def make(**who: bool) -> None:
        monkeypatch.setattr(operation, "_resolved", {})
        for name, module in (("cuda", cuda_impl), ("triton", triton_impl)):
            monkeypatch.setattr(module, "missing", lambda name=name: None if who[name] else f"no {name}")
            monkeypatch.setattr(module, "declines", lambda *arguments: None)

    return make


def test_cuda_goes_before_triton_and_triton_before_torch(able: Callable[..., None]) -> None:
    arguments = drawn(1, 2, 3, coded=True, dtype=torch.float32)
    able(cuda=True, triton=True)
    assert str(operation.resolve(*arguments)) == "cuda"
    able(cuda=False, triton=True)
    assert str(operation.resolve(*arguments)) == "triton (cuda: no cuda)"


@each_layout
def test_a_sparse_layer_on_a_device_runs_by_it(able: Callable[..., None], emulated: Callable[..., Tensor],
                                               monkeypatch: pytest.MonkeyPatch, coded: bool) -> None:
    able(cuda=True, triton=True)
    monkeypatch.setattr(cuda_impl, "run", emulated)
    monkeypatch.setattr(gpu, "serves", lambda device: True)  # the CPU is taken for a GPU
    dense = nn.Linear(300, 9).requires_grad_(False)
    mask = torch.rand(9, 300, generator=torch.Generator().manual_seed(1)) < 0.4
    dense.weight[~mask] = 0
    layer = SparseLinear(SparseWeight.of(pack(mask), dense.weight[mask], (9, 300), coded=coded), dense.bias)
    assert isinstance(layer.weight.planes, Rows)
    x = torch.randn(2, 3, 300)
    before = calls.copy()
    with torch.no_grad():
        torch.testing.assert_close(layer(x), dense(x))
    assert calls - before == {("rows_linear", "cuda"): 1}
