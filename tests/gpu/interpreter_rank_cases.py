"""topk_threshold's Triton kernels in Triton's interpreter; run by test_triton_interpreter.py like interpreter_cases.py.

The interpreter takes seconds for what takes the emulator of CUDA a tenth of that, so these cases are few; with
OPTPRUNE_TEST_ALL=1 (`make gpu-code`) they are all that there are.
"""

from __future__ import annotations

import os

import pytest
import torch

from optprune_fast.ops.topk_threshold import topk_threshold, triton_impl
from optprune_fast.testing.on_device import judge
from optprune_fast.testing.ranks import RankCase, judge_ranks, rank_cases
from optprune_fast.testing.samples import samples
from optprune_fast.testing.subjects import subjects

FEW_CASES = ("types-and-narrow-rows", "zeros-in-the-pool", "one-zero", "levels", "list-overflows",
             "only-the-pool-misses", "nan-dropped")
FEW_SAMPLES = ("one-matrix", "several", "ties", "keep-none", "all-in-the-pool", "empty-among-others")
ALL = os.environ.get("OPTPRUNE_TEST_ALL") == "1"
[SUBJECT] = [s for s in subjects() if s.name == "topk_threshold"]


@pytest.mark.parametrize("case", [case for case in rank_cases() if ALL or case.name in FEW_CASES],
                         ids=lambda case: case.name)
def test_bits_are_those_of_the_sort(case):
    judge_ranks(lambda plan, drop: triton_impl.launch(plan, drop=drop), triton_impl.TILE_WORDS, case)


@pytest.mark.parametrize("case", [case for case in samples("topk_threshold") if ALL or case.name in FEW_SAMPLES],
                         ids=lambda case: case.name)
def test_every_sample_agrees_with_the_sort(case):
    ours, plain = (topk_threshold(*case.arguments, backend=backend) for backend in ("triton", "torch"))
    judge(SUBJECT, case, ours, plain)


def test_any_number_of_programs_gives_the_same_bits():
    [case] = [case for case in rank_cases() if case.name == "levels"]
    judge_ranks(lambda plan, drop: triton_impl.launch(plan, drop=drop, programs=3), triton_impl.TILE_WORDS, case)


def test_rows_beyond_32_bits_are_found(far_apart):
    weight = torch.randn(3, 65, generator=torch.Generator().manual_seed(0))
    rows = far_apart(weight, 2**30 + 5)  # the step fits 32 bits, the place of the third row does not
    judge_ranks(lambda plan, drop: triton_impl.launch(plan, drop=drop), triton_impl.TILE_WORDS,
                RankCase("far", [rows], 60, plan={"direct": True}, as_they_are=True))


def test_nan_is_refused_by_the_name_of_its_tensor():
    tensors = [torch.ones(0, 3), torch.ones(2, 3), torch.full((2, 3), torch.nan), torch.tensor([torch.nan])]
    with pytest.raises(ValueError, match=r"tensors\[2\] holds NaN"):
        topk_threshold(tensors, 3, backend="triton")
