"""masked_linear's kernel for compute capability 9.0a gives the right numbers, with no GPU: on the CPU, thread by
thread."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from optprune_fast.ops.cuda_support import KINDS
from optprune_fast.ops.masked_linear import cuda_impl
from optprune_fast.ops.masked_linear.reference import masked_linear_reference
from optprune_fast.ops.words import pack
from optprune_fast.runtime import cuda
from optprune_fast.testing.poison import poison_all
from optprune_fast.testing.samples import samples

each_half = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)


def in_chunks(tensor: Tensor) -> Tensor:
    """A copy whose rows begin at multiples of 16 bytes, with NaN from their ends on."""
    width = -(-tensor.shape[-1] // 8) * 8 + 8
    return tensor.new_full((*tensor.shape[:-1], width), float("nan"))[..., :tensor.shape[-1]].copy_(tensor)


@pytest.fixture
def run(emulated):
    """As `emulated`, by wgmma."""
    return functools.partial(emulated, way="wgmma")


@pytest.mark.parametrize(("dtype", "case"), [
    pytest.param(dtype, case, id=f"{case.name}-{dtype}")
    for dtype in (torch.float16, torch.bfloat16) for case in samples("masked_linear", dtype)])
def test_every_sample_agrees_with_float64(run, judge, dtype, case):
    x, weight, words = case.arguments
    poisoned, guards = poison_all((in_chunks(x), in_chunks(weight), words))
    judge(run(*poisoned), case.arguments)
    for guard in guards:
        guard.assert_intact()


def whole_numbers(P: int, B: int, O: int, I: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:  # noqa: E741
    """Operands whose products, and their sums, are exact in every type."""
    generator = torch.Generator().manual_seed(I)
    x, weight = (in_chunks(torch.randint(-2, 3, (n, I), generator=generator).to(dtype)) for n in (B, O))
    return x, weight, pack(torch.rand(P, O, I, generator=generator) < 0.1)


# 128 samples a block, or 256 where they leave no more idle; three or four stages, so more steps than these in turn.
@each_half
@pytest.mark.parametrize("size", [
    (2, 128, 128, 64), (1, 256, 128, 64), (1, 256, 64, 512), (1, 128, 64, 512), (1, 129, 130, 65), (1, 257, 3, 33),
    (1, 1, 1, 1), (2, 150, 127, 200), (3, 5, 129, 447)], ids=str)
def test_whole_numbers_come_out_exactly(run, size, dtype):
    operands = whole_numbers(*size, dtype)
    assert torch.equal(run(*operands).double(), masked_linear_reference(*operands))


@pytest.mark.parametrize("i", [0, 1, 15, 16, 30, 31, 32, 47, 63, 64, 69])
def test_a_weight_counts_where_its_bit_is_set_and_nowhere_else(run, i):
    x, weight = (in_chunks(torch.arange(1.0, n * 70 + 1).reshape(n, 70).remainder(7).half()) for n in (17, 70))
    dense = torch.zeros(70, 70, 70, dtype=torch.bool)
    dense[torch.arange(70), torch.arange(70), i] = True  # candidate p keeps one weight, of output p
    expected = torch.zeros(70, 17, 70).half()
    expected[torch.arange(70), :, torch.arange(70)] = weight[:, i:i + 1] * x[:, i]
    assert torch.equal(run(x, weight, pack(dense), blocks=3), expected)


@pytest.mark.parametrize("samples", [65, 150])
@pytest.mark.parametrize("blocks", [2, 3, 4, 6, 7])
def test_any_number_of_blocks_serves_all_tiles(run, sample, samples, blocks):
    """6 tiles. The last step of one lies in shared memory where the first of the next one will."""
    x, weight, words = sample(3, samples, 131, 104, own=True, dtype=torch.float16)
    operands = in_chunks(x), in_chunks(weight), words
    assert torch.equal(run(*operands, blocks=blocks), run(*operands))


def test_rows_beyond_32_bits_are_found(run, sample, judge, far_apart):
    x, weight, words = sample(2, 3, 4, 65, dtype=torch.float16)
    judge(run(far_apart(x, 2**30 + 8), in_chunks(weight), words), (x, weight, words))


@pytest.mark.parametrize("samples", [67, 129])
@pytest.mark.parametrize("outputs", [69, 70])
def test_nothing_past_the_end_of_memory_is_touched(emulator, sample, to_a_wall, in_a_fork, samples, outputs):
    x, weight, words = map(to_a_wall, sample(2, samples, outputs, 72, own=True, dtype=torch.float16))
    out = to_a_wall(torch.empty(2, samples, outputs, dtype=torch.float16))
    addresses = [t.data_ptr() for t in (x, weight, words, out)]
    sizes = (2, samples, 72, outputs, x.stride(0), x.stride(1), weight.stride(0), *words.stride()[:2])
    call = (cuda_impl.WAYS["wgmma"], KINDS[torch.float16], *addresses, *sizes)
    assert in_a_fork(lambda: emulator(3, False, *call)) == 0, "read or written past the end"


def test_no_step_and_no_bit_give_zeros(run):
    nothing = torch.ones(3, 0).half(), torch.ones(5, 0).half(), torch.empty(2, 5, 0, dtype=torch.int64)
    assert torch.equal(run(*nothing), torch.zeros(2, 3, 5).half())
    none = torch.zeros(2, 5, 1, dtype=torch.int64)
    assert torch.equal(run(in_chunks(torch.ones(3, 9).half()), in_chunks(torch.ones(5, 9).half()), none),
                       torch.zeros(2, 3, 5).half())


# ---- who takes which way


@pytest.fixture
def ways(monkeypatch):
    """ways(capability, x, weight, has_sm90a=True): those of a call on such a card."""

    def ask(capability: tuple[int, int], x: Tensor, weight: Tensor, has_sm90a: bool = True) -> list[str]:
        monkeypatch.setattr(cuda, "module", lambda: SimpleNamespace(has_sm90a=has_sm90a))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        return cuda_impl.ways(x, weight)

    return ask


def test_wgmma_is_for_one_architecture_and_code_that_was_built_for_it(ways):
    x, weight = torch.zeros(3, 16).half(), torch.zeros(2, 16).half()
    assert ways((9, 0), x, weight) == ["wgmma", "mma"]
    assert ways((9, 0), x, weight, has_sm90a=False) == ["mma"]
    for other in ((8, 0), (8, 9), (10, 0), (12, 0)):
        assert ways(other, x, weight) == ["mma"]
    assert ways((9, 0), x.float(), weight.float()) == ["fma"]


def test_wgmma_is_for_rows_that_begin_at_multiples_of_16_bytes(ways):
    x, weight = torch.zeros(2, 3, 24).half(), torch.zeros(2, 24).half()
    assert ways((9, 0), x[..., :20], weight[:, :20])[0] == "wgmma"
    assert ways((9, 0), x[..., 8:], weight[:, 8:])[0] == "wgmma"
    assert ways((9, 0), x[..., 4:], weight[:, 4:]) == ["mma"]
    assert ways((9, 0), torch.zeros(3, 20).half(), torch.zeros(2, 20).half()) == ["mma"]
    assert ways((9, 0), x, torch.zeros(2, 20).half()[:, :16]) == ["mma"]


def test_a_way_that_cannot_serve_a_call_is_refused(ways, sample):
    x, weight, words = sample(1, 2, 3, 20, dtype=torch.float16)
    ways((9, 0), x, weight)
    with pytest.raises(ValueError, match="this call is served by mma, not by wgmma"):
        cuda_impl.run(x, weight, words, way="wgmma")
