"""Activations and arithmetic: their names, their numbers, and that the formulas are the model's."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

ACTIVATIONS = {
    "relu": (F.relu, ()), "relu6": (F.relu6, ()), "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), (0.2,)),
    "elu": (lambda x: F.elu(x, 0.7), (0.7,)), "gelu": (F.gelu, ()),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), ()), "silu": (F.silu, ()), "sigmoid": (torch.sigmoid, ()),
    "tanh": (torch.tanh, ()), "hardswish": (F.hardswish, ()), "hardsigmoid": (F.hardsigmoid, ()),
    "hardtanh": (lambda x: F.hardtanh(x, -0.3, 0.4), (-0.3, 0.4)),
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_keep_their_parameters(after, kind):
    function, parameters = ACTIVATIONS[kind]
    assert after(function, 6) == [("activation", {"kind": kind, "parameters": parameters})]


def test_in_place_is_as_good_as_out_of_place(after):
    assert [op for op, _ in after(lambda x: F.relu(x, inplace=True).add_(1).mul_(2), 6)] == [
        "activation", "scale", "scale"]


def test_a_constant_that_is_written_into(after):
    def function(x):
        shift = torch.zeros(6, dtype=x.dtype)
        shift.fill_(3)
        return (x + shift).relu_()

    assert [op for op, _ in after(function, 6)] == ["constant", "add", "activation"]


def test_clamps_are_hardtanh(after):
    assert after(lambda x: x.clamp(min=-0.1), 6) == [
        ("activation", {"kind": "hardtanh", "parameters": (-0.1, math.inf)})]
    assert after(lambda x: x.clamp_max(0.1), 6) == [
        ("activation", {"kind": "hardtanh", "parameters": (-math.inf, 0.1)})]


def test_selu_is_a_scaled_elu(after):
    assert [op for op, _ in after(F.selu, 6)] == ["activation", "scale"]


@pytest.mark.parametrize(("function", "factor", "shift"), [
    (lambda x: x + 3, 1, 3), (lambda x: x - 3, 1, -3), (lambda x: 3 - x, -1, 3), (lambda x: x * 3, 3, 0),
    (lambda x: x / 4, 0.25, 0), (lambda x: -x, -1, 0), (lambda x: torch.add(x, 3, alpha=2), 1, 6),
])
def test_numbers_make_a_scale(after, function, factor, shift):
    assert after(function, 6) == [("scale", {"factor": factor, "shift": shift})]


def test_two_values_and_broadcasting(after):
    assert [op for op, _ in after(lambda x: x + x, 4, 6)] == ["add"]
    assert [op for op, _ in after(lambda x: x * x.mean(1, keepdim=True), 4, 6)] == ["mean", "mul"]
    assert [op for op, _ in after(lambda x: torch.sub(x, x.sigmoid(), alpha=2), 6)] == ["activation", "scale", "sub"]


@pytest.mark.parametrize("shape", [(6,), (1, 6), (4, 1), (1, 4, 1), ()])
def test_constants_of_any_fitting_rank(after, shape):
    constant = torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)
    assert [op for op, _ in after(lambda x: constant - x, 4, 6)] == ["constant", "sub"]


@pytest.mark.parametrize(("fill", "expected"), [(-math.inf, ["constant", "add"]),
                                                (-2.0, ["constant", "mul", "constant", "add"])])
def test_a_constant_mask_fills(after, fill, expected):
    def causal(x):
        return x.masked_fill(torch.ones(4, 4).tril() == 0, fill)

    assert [op for op, _ in after(causal, 4, 4)] == expected


def test_a_division_of_tensors_is_left_to_torch(after):
    found = after(lambda x: x / x.exp(), 6)
    assert [(op, at["name"]) for op, at in found] == [("torch", "aten.exp.default"), ("torch", "aten.div.Tensor")]
