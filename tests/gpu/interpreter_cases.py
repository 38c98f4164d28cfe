"""The Triton kernel in Triton's interpreter; test_triton_interpreter.py runs these in a process of their own.

Whether kernels are interpreted is settled when they are decorated, for the whole process. The name of this file keeps
pytest from collecting it elsewhere.
"""

from __future__ import annotations

import functools

import pytest
import torch

from optprune_fast.ops.masked_linear import masked_linear, triton_impl
from optprune_fast.runtime.dispatch import calls
from optprune_fast.runtime.errors import BackendError
from optprune_fast.testing.poison import Poisoned
from optprune_fast.testing.samples import samples

FLOATS = {"float32": torch.float32, "float16": torch.float16}
each_float = pytest.mark.parametrize("dtype", FLOATS.values(), ids=FLOATS.keys())
interpreted = functools.partial(masked_linear, backend="triton")


@pytest.mark.parametrize(("dtype", "case"), [
    pytest.param(dtype, case, id=f"{case.name}-{name}")
    for name, dtype in FLOATS.items() for case in samples("masked_linear", dtype)])
def test_every_sample_agrees_with_float64(judge_poisoned, dtype, case):
    judge_poisoned(interpreted, case.arguments)


@pytest.mark.parametrize("size", [(2, 129, 65, 31), (2, 65, 33, 96), (1, 64, 32, 33)], ids=str)
@each_float
def test_every_edge_of_a_tile_agrees_with_float64(sample, judge_poisoned, size, dtype):
    judge_poisoned(interpreted, sample(*size, own=True, dtype=dtype))


def test_dispatch_runs_the_triton_kernel(sample):
    before = calls["masked_linear", "triton"]
    masked_linear(*sample(1, 2, 3, 4))
    assert calls["masked_linear", "triton"] == before + 1


@each_float
def test_64_bit_offsets_give_the_bits_of_32_bit_offsets(sample, dtype):
    operands = sample(3, 65, 65, 130, own=True, dtype=dtype)
    narrow, wide = (torch.full((3, 65, 65), float("nan"), dtype=dtype) for _ in range(2))
    triton_impl.launch(*operands, narrow, wide=False)
    triton_impl.launch(*operands, wide, wide=True)
    assert torch.equal(narrow, wide)


def test_rows_beyond_32_bits_are_found(sample, judge, far_apart):
    x, weight, words = sample(2, 3, 4, 65, dtype=torch.float16)
    operands = far_apart(x, 2**30 + 5), weight, words  # the step fits 32 bits, the place of the third row does not
    judge(interpreted(*operands), operands)


def test_a_population_beyond_one_grid_takes_several_launches(sample):
    operands = sample(5, 3, 70, 40, own=True)
    whole, parts = (torch.full((5, 3, 70), float("nan")) for _ in range(2))
    triton_impl.launch(*operands, whole, wide=False)
    triton_impl.launch(*operands, parts, wide=False, most_programs=7)  # 3 programs a candidate
    assert torch.equal(whole, parts)


def test_nothing_is_written_around_the_output(sample, judge):
    operands = sample(2, 33, 31, 70)
    out = Poisoned(torch.empty(2, 33, 31), empty=True)
    triton_impl.launch(*operands, out.tensor, wide=False)
    judge(out.tensor, operands)
    out.assert_surroundings_intact()


def test_nothing_past_the_end_of_memory_is_touched(walled, judge):
    operands, out = walled
    triton_impl.launch(*operands, out, wide=False)
    judge(out, operands)


def test_vmap_folds_into_one_call(sample):
    x, weight, words = sample(6, 4, 5, 65)
    before = calls["masked_linear", "triton"]
    folded = torch.vmap(lambda w: interpreted(x, weight, w))(words.unflatten(0, (2, 3)))
    assert calls["masked_linear", "triton"] == before + 1
    assert torch.equal(folded.flatten(0, 1), interpreted(x, weight, words))


def test_bfloat16_is_declined_because_the_interpreter_is_wrong(sample):
    with pytest.raises(BackendError, match="interpreter computes bfloat16 wrongly"):
        interpreted(*sample(1, 1, 1, 1, dtype=torch.bfloat16))
