"""topk_threshold's CUDA kernels give the right bits, with no GPU: their bodies run on the CPU, thread by thread."""

from __future__ import annotations

import ctypes

import pytest
import torch

from optprune_fast.ops.topk_threshold import cuda_impl
from optprune_fast.testing.ranks import RankCase, judge_ranks, rank_cases


@pytest.fixture(scope="module")
def emulator(emulated_library):
    """The launches of cuda.cu as a function of blocks and addresses."""
    return emulated_library("topk_threshold")


@pytest.fixture
def enqueue(emulator, emulate):
    """enqueue(plan, drop): what cuda_impl makes of a plan, with the emulator in the place of `_cuda`."""
    function = emulator.emulate_topk_threshold
    function.restype = ctypes.c_bool
    function.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 8, *[ctypes.c_int64] * 2, ctypes.c_int,
                         *[ctypes.c_bool] * 2]
    state = ctypes.c_int64.in_dll(emulator, "emulated_state").value
    launch = emulate("topk_threshold", function, cuda_impl.launch, topk_threshold_state=state)
    return lambda plan, drop, blocks=2: launch(plan, blocks=blocks, drop=drop)


@pytest.mark.parametrize("case", rank_cases(), ids=lambda case: case.name)
def test_bits_are_those_of_the_sort(enqueue, case):
    judge_ranks(enqueue, cuda_impl.TILE_WORDS, case)


@pytest.mark.parametrize("blocks", [1, 5, 40])
def test_any_number_of_blocks_gives_the_same_bits(enqueue, blocks):
    for name in ("types-and-narrow-rows", "zeros-in-the-pool"):
        [case] = [case for case in rank_cases() if case.name == name]
        judge_ranks(lambda plan, drop: enqueue(plan, drop, blocks), cuda_impl.TILE_WORDS, case)


def test_rows_beyond_32_bits_are_found(enqueue, far_apart):
    weight = torch.randn(3, 65, generator=torch.Generator().manual_seed(0))
    rows = far_apart(weight, 2**30 + 5)  # the step fits 32 bits, the place of the third row does not
    judge_ranks(enqueue, cuda_impl.TILE_WORDS, RankCase("far", [rows], 60, 50, as_they_are=True))


def test_nothing_past_the_end_of_memory_is_touched(enqueue, to_a_wall, in_a_fork):
    weight = torch.randn(2, 8200, generator=torch.Generator().manual_seed(0))
    tensors = [weight.flatten()[:8195], weight[:, :65], weight[:, :4096].half(), weight[:1, :8192].bfloat16()]
    tensors = [to_a_wall(t) for t in tensors]

    def judge() -> None:
        for plan in ({"direct": True}, {"direct": False, "samples": 3000}):
            case = RankCase("wall", tensors, 7000, 5000, plan=plan, as_they_are=True)
            judge_ranks(enqueue, cuda_impl.TILE_WORDS, case)

    assert in_a_fork(judge) == 0, "read past the end, or bits differ"


IN_LIST, TIED, KNOWN, MISSED = range(4)  # cuda_select.h


@pytest.mark.parametrize(("name", "verdicts"), {
    "bracket-and-pool": (IN_LIST, IN_LIST), "zeros": (TIED,), "zeros-in-the-pool": (IN_LIST, TIED),
    "up-to-the-zeros": (IN_LIST, KNOWN), "one-zero": (KNOWN, TIED), "last-of-a-level": (KNOWN, KNOWN),
    "constant": (TIED, TIED), "none-and-a-pool": (TIED, IN_LIST), "bracket-too-high": (MISSED, MISSED),
    "bracket-too-low": (MISSED, MISSED), "bracket-absent": (IN_LIST, IN_LIST), "list-overflows": (MISSED, MISSED),
    "only-the-pool-misses": (TIED, MISSED), "direct": (MISSED, MISSED),
}.items(), ids=str)
def test_a_case_goes_the_way_that_it_is_there_for(enqueue, name, verdicts):
    states = []

    def seen(plan, drop):
        result = enqueue(plan, drop)
        states.append(result._base)
        return result

    [case] = [case for case in rank_cases() if case.name == name]
    judge_ranks(seen, cuda_impl.TILE_WORDS, case)
    ranks = states[0][2:].split(11)[: len(verdicts)]  # State and Rank in cuda.h
    assert tuple(int(rank[3]) for rank in ranks) == verdicts
    for rank in ranks:
        if rank[3] == IN_LIST:  # what is strictly inside was listed, once
            assert rank[6] == rank[9] - rank[8]
