"""The CUDA kernel gives the right numbers, with no GPU: its body runs on the CPU, thread by thread."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from optprune_fast.ops.masked_linear import cuda_impl, masked_linear, operation
from optprune_fast.runtime import cuda
from optprune_fast.testing.poison import PoisonedAllocations
from optprune_fast.testing.samples import samples


@pytest.fixture(scope="session")
def emulator(emulated_library):
    """The body of cuda.cu as a function of blocks, addresses, sizes and steps."""
    function = emulated_library("masked_linear").emulate_masked_linear
    function.restype = ctypes.c_bool
    function.argtypes = [ctypes.c_uint, *[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 9]
    return function


@pytest.fixture
def emulated(emulator, monkeypatch):
    """run(x, weight, words): what cuda_impl makes of the call, with the emulator in the place of `_cuda`."""
    launch = SimpleNamespace(blocks=1)

    def masked_linear(device: int, stream: int, *arguments: int) -> None:
        assert (device, stream) == (3, 5)
        assert emulator(launch.blocks, *arguments), "some threads of a block ended while others waited at a barrier"

    def run(x: Tensor, weight: Tensor, words: Tensor, blocks: int = 1) -> Tensor:
        launch.blocks = blocks
        with PoisonedAllocations() as allocations:
            out = cuda_impl.launch(x, weight, words, device=3, stream=5)
        allocations.assert_intact()
        return out.clone()

    monkeypatch.setattr(cuda, "module", lambda: SimpleNamespace(masked_linear=masked_linear))
    return run


@pytest.mark.parametrize("case", samples("masked_linear"), ids=lambda case: case.name)
def test_every_sample_agrees_with_float64(emulated, judge_poisoned, case):
    judge_poisoned(emulated, case.arguments)


@pytest.mark.parametrize("backend", ["native", "numba"])
def test_sums_are_those_of_the_cpu_kernels_bit_by_bit(emulated, sample, backend):
    missing = operation.missing(backend)
    if missing:
        pytest.skip(missing)
    operands = sample(3, 65, 70, 513)
    assert torch.equal(emulated(*operands), masked_linear(*operands, backend=backend))


@pytest.mark.parametrize("blocks", [2, 5, 12, 20])
def test_any_number_of_blocks_serves_all_tiles(emulated, sample, blocks):
    operands = sample(3, 65, 65, 40, own=True)  # 12 tiles
    assert torch.equal(emulated(*operands, blocks=blocks), emulated(*operands))


def test_rows_beyond_32_bits_are_found(emulated, sample, judge, far_apart):
    x, weight, words = sample(2, 3, 4, 65)
    operands = far_apart(x, 2**30 + 5), weight, words  # the step fits 32 bits, the place of the third row does not
    judge(emulated(*operands), operands)


def test_nothing_past_the_end_of_memory_is_touched(emulator, walled, in_a_fork):
    (x, weight, words), out = walled
    arguments = [t.data_ptr() for t in (x, weight, words, out)]
    sizes = (2, 67, 75, 69, x.stride(0), x.stride(1), weight.stride(0), *words.stride()[:2])
    assert in_a_fork(lambda: emulator(3, *arguments, *sizes)) == 0, "read or written past the end"
