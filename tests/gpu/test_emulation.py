"""The emulation of CUDA on a CPU shows barriers and waits that are missing, and rounds numbers as a GPU does."""

from __future__ import annotations

import ctypes

import pytest
import torch

from optprune_fast.ops.cuda_support import KINDS


@pytest.fixture(scope="module")
def library(emulated_library):
    return emulated_library("itself")


@pytest.mark.parametrize(("kernel", "ends"), [
    ("all_wait_alike", True),
    ("warps_wait_for_themselves_as_they_like", True),
    ("a_warp_ends_while_another_waits", False),
    ("a_lane_ends_while_others_wait", False),
    ("a_lane_waits_for_the_block_and_others_for_it", False),
])
def test_threads_that_would_wait_forever_are_found(library, kernel, ends):
    function = getattr(library, kernel)
    function.restype = ctypes.c_bool
    assert function() == ends


@pytest.mark.parametrize("phase", range(4))
def test_a_warp_runs_ahead_of_the_others_as_far_as_it_may(library, phase):
    assert library.written_without_a_barrier(phase) == 1


def test_a_copy_that_nobody_waited_for_is_not_there(library):
    assert library.read_without_a_wait() == -1
    assert library.read_after_a_wait_for_the_group_before() == -1
    assert library.read_after_a_wait() == 7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_numbers_are_rounded_as_torch_rounds_them(library, dtype):
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31 - 1, (200_000,), generator=generator).to(torch.int32)
    edges = torch.tensor([0.0, -0.0, 65504, 65519.9, 65520, -1e30, 2**-24, 2**-25, 3 * 2**-25, 2**-14, 1 + 2**-11,
                          1 + 3 * 2**-11, float("inf")])
    numbers = torch.cat([bits.view(torch.float32), torch.randn(200_000, generator=generator) * 100, edges])
    numbers = numbers[~numbers.isnan()]
    out = torch.empty(numbers.numel(), dtype=torch.int16)
    library.round_all(KINDS[dtype], ctypes.c_void_p(numbers.data_ptr()), ctypes.c_void_p(out.data_ptr()),
                      ctypes.c_int64(numbers.numel()))
    assert torch.equal(out, numbers.to(dtype).view(torch.int16))
