"""choose_bits's CUDA kernel gives the right bits, with no GPU: its body runs on the CPU, thread by thread."""

from __future__ import annotations

import ctypes
import functools

import pytest
import torch
from torch import Tensor

from optprune_fast.ops.choose_bits import choose_bits, cuda_impl, operation
from optprune_fast.ops.words import pack, popcount
from optprune_fast.testing.poison import poison_all
from optprune_fast.testing.samples import meaning, samples

ARGUMENTS = [ctypes.c_uint, *[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 3]


@pytest.fixture(scope="module")
def emulator(emulated_library):
    """emulator(library): the body of cuda.cu as a function of blocks, addresses, sizes and a step."""

    def load(library: str):
        function = emulated_library(library).emulate_choose_bits
        function.restype, function.argtypes = ctypes.c_bool, ARGUMENTS
        return function

    return load


@pytest.fixture(scope="module")
def function(emulator):
    return emulator("choose_bits")


@pytest.fixture
def emulated(function, emulate):
    """run(words, counts, seeds): what cuda_impl makes of the call, with the emulator in the place of `_cuda`."""

    def run(words: Tensor, counts: Tensor, seeds: Tensor, blocks: int = 2) -> Tensor:
        return emulate("choose_bits", functools.partial(function, blocks), cuda_impl.launch)(words, counts, seeds)

    return run


def rows_of(bits: int, P: int = 3) -> Tensor:
    """P rows of which some of the first `bits` bits are set, and none behind."""
    generator = torch.Generator().manual_seed(bits)
    return pack(torch.rand(P, bits, generator=generator) < 0.7)


@pytest.mark.parametrize("case", samples("choose_bits"), ids=lambda case: case.name)
def test_bits_of_every_sample_are_those_of_the_meaning(emulated, case):
    poisoned, guards = poison_all(case.arguments)
    assert torch.equal(emulated(*poisoned), meaning("choose_bits", case))
    for guard in guards:
        guard.assert_intact()


@pytest.mark.parametrize("backend", ["native", "numba", "torch"])
@pytest.mark.parametrize("bits", [1, 63, 64, 65, 127, 501, 16385, 60001])
def test_bits_are_those_of_the_cpu_backends_to_the_ends_of_what_may_be_asked(emulated, bits, backend):
    if operation.implementation(backend).missing():
        pytest.skip(operation.implementation(backend).missing())
    words = rows_of(bits)
    held = popcount(words).sum(1)
    seeds = torch.tensor([0, -1, 2**62 + bits])
    for counts in (held * 0, held.clamp(max=1), held // 20, held // 2, (held - 1).clamp(min=0), held):
        chosen = emulated(words, counts, seeds)
        assert torch.equal(chosen, choose_bits(words, counts, seeds, backend=backend))
        assert torch.equal(popcount(chosen).sum(1), counts)


def test_a_count_out_of_range_is_the_nearest_that_is_in_it(emulated):
    words, seeds = rows_of(501), torch.arange(3)
    counts = torch.tensor([-(2**63), 502, 2**63 - 1])
    assert torch.equal(emulated(words, counts, seeds), torch.stack([words[0] * 0, words[1], words[2]]))


@pytest.mark.parametrize("blocks", [1, 4, 7, 12])
def test_any_number_of_blocks_serves_all_rows(emulated, blocks):
    words, counts, seeds = rows_of(700, P=7), torch.arange(7) * 60, torch.arange(7)
    assert torch.equal(emulated(words, counts, seeds, blocks), choose_bits(words, counts, seeds, backend="torch"))


@pytest.mark.parametrize("count", [0, 1, 2, 511, 512, 513, 2047, 2048, 2049, 3000, 8191, 8192])
def test_keys_that_share_all_digits_but_the_last_are_told_apart(emulator, count):
    words, out = torch.full((2, 128), -1), torch.empty(2, 128, dtype=torch.int64)
    counts, seeds = torch.tensor([count, 8192 - count]), torch.tensor([0, 2**61 - 5])
    assert emulator("choose_bits_in_order")(1, *(t.data_ptr() for t in (words, counts, seeds, out)), 2, 128, 128)
    assert torch.equal(out, pack(torch.arange(8192) < counts.unsqueeze(1)))


def test_rows_beyond_32_bits_are_found(emulated, far_apart):
    words, counts, seeds = rows_of(501), torch.tensor([3, 50, 200]), torch.arange(3)
    far = far_apart(words, 2**30 + 5)  # the step fits 32 bits, the place of the third row does not
    assert torch.equal(emulated(far, counts, seeds), choose_bits(words, counts, seeds, backend="torch"))


def test_nothing_past_the_end_of_memory_is_touched(function, to_a_wall, in_a_fork):
    words, counts, seeds = rows_of(700), torch.tensor([5, 90, 300]), torch.arange(3)
    given = [to_a_wall(t) for t in (words, counts, seeds, torch.empty_like(words))]
    addresses = [t.data_ptr() for t in given]
    assert in_a_fork(lambda: function(2, *addresses, 3, words.shape[1], words.stride(0))) == 0, "past the end"
