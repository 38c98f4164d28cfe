"""masked_conv2d's Triton kernel in Triton's interpreter; test_triton_interpreter.py runs these as well."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F

from optprune_fast.ops.masked_conv2d import masked_conv2d, torch_impl, triton_impl
from optprune_fast.ops.masked_conv2d.reference import masked_conv2d_reference
from optprune_fast.ops.triton_support import Epilogue, product
from optprune_fast.runtime.errors import BackendError
from optprune_fast.testing.poison import Poisoned, poison_all
from optprune_fast.testing.samples import samples
from optprune_fast.testing.tolerance import assert_as_accurate

CASES = {case.name: case for case in samples("masked_conv2d")}
interpreted = functools.partial(masked_conv2d, backend="triton")


def judge(out, arguments, precision="fp32"):
    x, weight, words, *geometry = arguments
    magnitude = masked_conv2d_reference(x.abs(), weight.abs(), words, *geometry)
    assert_as_accurate(out, torch_impl.run(*arguments), masked_conv2d_reference(*arguments),
                       terms=weight.shape[1:].numel(), precision=precision,
                       magnitude=float(magnitude.max()) if magnitude.numel() else 0.0)


def launched(arguments, out, *, wide=False, **options):
    x, weight, words, stride, padding, dilation, groups = arguments
    how = product(x, weight.shape[0] // groups, words.shape[0], "fp32", shared=x.dim() == 4, wide=wide)
    triton_impl.launch(x, weight.flatten(1), words, out, how, (*stride, *padding, *dilation), weight.shape[2:],
                       groups, **options)
    return how


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_sample_agrees_with_float64(case):
    poisoned, guards = poison_all(case.arguments)
    judge(interpreted(*poisoned), case.arguments)
    for guard in guards:
        guard.assert_intact()


@pytest.mark.parametrize("name", ["everything", "wide", "depthwise", "x-channels-last"])
def test_float16_agrees_with_float64(name):
    [case] = [case for case in samples("masked_conv2d", torch.float16) if case.name == name]
    judge(interpreted(*case.arguments), case.arguments)


@pytest.mark.parametrize(("name", "stacked"), [("everything", False), ("groups", True), ("depthwise", True),
                                               ("words-shared-by-candidates", False)])
def test_64_bit_offsets_and_several_launches_change_no_bit(name, stacked):
    arguments = CASES[name].arguments
    outs = [torch.full_like(torch_impl.run(*arguments), float("nan")) for _ in range(3)]
    assert launched(arguments, outs[0]).stacked is stacked
    launched(arguments, outs[1], wide=True)
    launched(arguments, outs[2], most_programs=1)
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])


def test_pictures_beyond_32_bits_are_found(far_apart):
    x, weight, words, *geometry = CASES["shared"].arguments
    x = x.repeat(1, 1, 1, 1)
    pictures = far_apart(x.flatten(1), 2**30 + 5).unflatten(1, x.shape[1:])  # the third one starts beyond 2^31
    arguments = (pictures, weight, words, *geometry)
    judge(interpreted(*arguments), arguments)


def test_nothing_is_written_around_the_output():
    arguments = CASES["everything"].arguments
    out = Poisoned(torch.empty_like(torch_impl.run(*arguments)), empty=True)
    launched(arguments, out.tensor)
    judge(out.tensor, arguments)
    out.assert_surroundings_intact()


def test_nothing_past_the_end_of_memory_is_touched(to_a_wall):
    x, weight, words, *geometry = CASES["everything"].arguments
    arguments = (to_a_wall(x), to_a_wall(weight), to_a_wall(words), *geometry)
    out = to_a_wall(torch_impl.run(*arguments))
    launched(arguments, out.fill_(float("nan")))
    judge(out, arguments)


@pytest.mark.parametrize("precision", ["tf32", "tf32x3", "fp16"])
def test_a_precision_keeps_its_rule(precision):
    arguments = CASES["padding"].arguments
    judge(interpreted(*arguments, precision=precision), arguments, precision)


def test_bias_and_activation_go_to_their_channels():
    x, weight, words, *geometry = CASES["groups"].arguments
    bias = torch.linspace(-3, 3, len(weight))
    out = triton_impl.fused(x, weight, words, *geometry, epilogue=Epilogue(bias, "relu", ()))
    wanted = F.relu(masked_conv2d_reference(x, weight, words, *geometry) + bias[:, None, None])
    torch.testing.assert_close(out.double(), wanted, atol=1e-5, rtol=1e-5)


def test_bfloat16_is_declined_because_the_interpreter_is_wrong():
    [case] = [case for case in samples("masked_conv2d", torch.bfloat16) if case.name == "shared"]
    for arguments, options in ((case.arguments, {}), (CASES["shared"].arguments, {"precision": "bf16"})):
        with pytest.raises(BackendError, match="interpreter computes bfloat16 wrongly"):
            interpreted(*arguments, **options)
