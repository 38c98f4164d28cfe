"""The emulation of CUDA on a CPU shows barriers and waits that are missing, and rounds numbers as a GPU does."""

from __future__ import annotations

import ctypes
import math

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


# The steps of a thread: copy the second factor, show it to products, wait for the block, fence the registers, multiply
# (or: as if the factor lay unswizzled), close the group, wait for it, read a sum; turn half of the ones into twos.
@pytest.mark.parametrize(("course", "late", "early"), [
    ("csbfmgwr", 16, 16),
    ("cbfmgwr", None, None),  # what was never shown
    ("cbbsfmgwr", None, None),  # shown, but the block has not waited since
    ("sbfmgcwr", None, None),  # multiplied before it is there, or shown
    ("csbmgwr", None, None),  # registers that were not fenced
    ("csbmfgwr", None, None),
    ("csbftmgwr", None, None),
    ("csbfugwr", None, None),  # a descriptor of something else
    ("csbfmgrw", 0, 16),  # read before the wait
    ("csbfmwr", 0, 16),  # waited for a group that is still open
    ("csbfmgtwr", 24, 16),  # the registers belong to the product until the wait
    ("csbtfmgwr", 24, 24),
    ("csbfmmgwr", 32, 32),
])
def test_a_product_sees_what_was_shown_and_fenced_and_may_be_late(library, course, late, early):
    library.multiplied.restype, library.multiplied.argtypes = ctypes.c_float, [ctypes.c_char_p, ctypes.c_bool]
    found = [library.multiplied(course.encode(), at_once) for at_once in (False, True)]
    assert [None if math.isnan(sum) else sum for sum in found] == [late, early]


@pytest.mark.parametrize(("first_warp", "others", "well"), [
    ("csbfmgw", "csbfmgw", True),
    ("csbfgw", "csbfmgw", False),  # a warp that does not take part
    ("csbfmg", "csbfmg", False),  # nobody waits
    ("csbfmgw", "csbfmgwp", False),  # memory past what the launch asked for
])
def test_products_that_would_hang_or_be_lost_are_found(library, first_warp, others, well):
    library.multiplied_well.restype, library.multiplied_well.argtypes = ctypes.c_bool, [ctypes.c_char_p] * 2
    assert library.multiplied_well(first_warp.encode(), others.encode()) is well


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
