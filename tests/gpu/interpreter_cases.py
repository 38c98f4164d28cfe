"""masked_linear's Triton kernels in Triton's interpreter; test_triton_interpreter.py runs these in their own process.

Whether kernels are interpreted is settled when they are decorated, for the whole process. The name of this file keeps
pytest from collecting it elsewhere.
"""

from __future__ import annotations

import functools

import pytest
import torch

from optprune_fast.engine import objective
from optprune_fast.ops.masked_linear import masked_linear, triton_impl
from optprune_fast.ops.masked_linear.reference import masked_linear_reference
from optprune_fast.ops.triton_support import Epilogue, product
from optprune_fast.plan.reference import ACTIVATIONS
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


def launched(operands, out, *, wide=False, **options):
    x, weight, words = operands
    how = product(x, weight.shape[0], words.shape[0], "fp32", shared=x.dim() == 2, wide=wide, large=True)
    triton_impl.launch(*operands, out, how, **options)
    return how


@each_float
@pytest.mark.parametrize("own", [True, False], ids=["own", "stacked"])
def test_64_bit_offsets_give_the_bits_of_32_bit_offsets(sample, dtype, own):
    operands = sample(3, 65, 65, 130, own=own, dtype=dtype)
    narrow, wide = (torch.full((3, 65, 65), float("nan"), dtype=dtype) for _ in range(2))
    assert launched(operands, narrow).stacked is not own
    launched(operands, wide, wide=True)
    assert torch.equal(narrow, wide)


def test_rows_beyond_32_bits_are_found(sample, judge, far_apart):
    x, weight, words = sample(2, 3, 4, 65, dtype=torch.float16)
    operands = far_apart(x, 2**30 + 5), weight, words  # the step fits 32 bits, the place of the third row does not
    judge(interpreted(*operands), operands)


@pytest.mark.parametrize("own", [True, False], ids=["own", "stacked"])
def test_a_population_beyond_one_grid_takes_several_launches(sample, own):
    operands = sample(5, 3, 70, 40, own=own)
    whole, parts = (torch.full((5, 3, 70), float("nan")) for _ in range(2))
    launched(operands, whole)
    launched(operands, parts, most_programs=7)  # 3 programs a candidate
    assert torch.equal(whole, parts)


def test_candidates_are_stacked_where_that_takes_fewer_tiles():
    x = torch.zeros(5, 40)
    assert product(x, 10, 64, "fp32", shared=True, wide=False).stacked
    assert product(x, 10, 64, "fp32", shared=True, wide=False).tiles(10, 64) == 20
    assert product(x, 10, 64, "fp32", shared=False, wide=False).tiles(10, 64) == 64
    assert not product(x, 64, 7, "fp32", shared=True, wide=False).stacked  # tiles of 32, all of them full
    assert product(x, 10, 2**27, "fp32", shared=True, wide=True).stacked
    assert not product(x, 10, 2**28, "fp32", shared=True, wide=True).stacked  # more rows than 32 bits count


def test_nothing_is_written_around_the_output(sample, judge):
    operands = sample(2, 33, 31, 70)
    out = Poisoned(torch.empty(2, 33, 31), empty=True)
    launched(operands, out.tensor)
    judge(out.tensor, operands)
    out.assert_surroundings_intact()


def test_nothing_past_the_end_of_memory_is_touched(walled, judge):
    operands, out = walled
    launched(operands, out)
    judge(out, operands)


# ---- precisions by name


@pytest.mark.parametrize("precision", ["tf32", "tf32x3", "fp16"])
def test_a_precision_keeps_its_rule(sample, judge, precision):
    """Rounding to tf32 only a GPU can show: the interpreter multiplies float32 as it is."""
    operands = sample(2, 9, 17, 130)
    judge(interpreted(*operands, precision=precision), operands, precision)


def test_fp16_rounds_factors_as_they_are_loaded_and_adds_in_float32(sample):
    x, weight, words = sample(2, 5, 7, 70)
    rounded = masked_linear_reference(x.half(), weight.half(), words)
    assert float((interpreted(x, weight, words, precision="fp16") - rounded).abs().max()) < 1e-5
    assert float((interpreted(x, weight, words) - rounded).abs().max()) > 1e-4


def test_tensors_of_16_bits_have_no_choice(sample):
    with pytest.raises(BackendError, match="a choice for float32 tensors, these are float16: leave it at fp32"):
        interpreted(*sample(1, 1, 1, 1, dtype=torch.float16), precision="tf32")


# ---- what the engine has done to a sum before it is stored


@pytest.mark.parametrize(("kind", "parameters"), [
    ("relu", ()), ("relu6", ()), ("leaky_relu", (0.1,)), ("elu", (0.7,)), ("gelu", ()), ("gelu_tanh", ()), ("silu", ()),
    ("sigmoid", ()), ("tanh", ()), ("hardswish", ()), ("hardsigmoid", ()), ("hardtanh", (-0.5, 2.0)), ("none", ())])
def test_bias_and_activation(sample, kind, parameters):
    x, weight, words = sample(2, 33, 9, 20)
    x, bias = x * torch.logspace(-3, 1, 33)[:, None], torch.linspace(-3, 3, 9)
    sums = masked_linear_reference(x, weight, words) + bias
    wanted = sums if kind == "none" else ACTIVATIONS[kind](sums, *parameters)
    out = triton_impl.fused(x, weight, words, epilogue=Epilogue(bias, kind, parameters))
    torch.testing.assert_close(out.double(), wanted, atol=3e-5, rtol=1e-5)
    nan = triton_impl.fused(x * float("nan"), weight, words, epilogue=Epilogue(bias, kind, parameters))
    assert nan[words[..., 0].ne(0).unsqueeze(1).expand_as(nan)].isnan().all()


def test_every_activation_of_the_engine_is_tried():
    tried = {mark.args[1][i][0] for mark in test_bias_and_activation.pytestmark for i in range(len(mark.args[1]))}
    assert tried == {*ACTIVATIONS, "none"}


@pytest.mark.parametrize("own", [True, False], ids=["own", "shared"])
@pytest.mark.parametrize("classes", [1, 2, 10, 16, 17, 70])
def test_losses_are_those_of_the_logits(sample, classes, own):
    x, weight, words = sample(3, 35, classes, 40, own=own)
    bias, targets = torch.linspace(-1, 1, classes), torch.arange(35) % classes
    logits = masked_linear_reference(x, weight, words) + bias
    entropy = triton_impl.losses(x, weight, words, bias, targets, "cross_entropy")
    torch.testing.assert_close(entropy.double(), objective.cross_entropy(logits, targets), atol=2e-5, rtol=1e-5)
    wrong = triton_impl.losses(x, weight, words, bias, targets, "error")
    assert torch.equal(wrong, objective.error(logits, targets))


def test_losses_far_from_zero_neither_overflow_nor_vanish(sample):
    x, weight, words = sample(2, 5, 3, 40)
    targets = torch.tensor([0, 1, 2, 0, 1])
    wanted = objective.cross_entropy(masked_linear_reference(300 * x, weight, words), targets)
    found = triton_impl.losses(300 * x, weight, words, None, targets, "cross_entropy")
    torch.testing.assert_close(found.double(), wanted, atol=1e-2, rtol=1e-5)


# ---- dispatch


def test_vmap_folds_into_one_call(sample):
    x, weight, words = sample(6, 4, 5, 65)
    before = calls["masked_linear", "triton"]
    folded = torch.vmap(lambda w: interpreted(x, weight, w))(words.unflatten(0, (2, 3)))
    assert calls["masked_linear", "triton"] == before + 1
    assert torch.equal(folded.flatten(0, 1), interpreted(x, weight, words))


def test_bfloat16_is_declined_because_the_interpreter_is_wrong(sample):
    with pytest.raises(BackendError, match="interpreter computes bfloat16 wrongly"):
        interpreted(*sample(1, 1, 1, 1, dtype=torch.bfloat16))
