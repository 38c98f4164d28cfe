"""Layers with weights: names of tensors, geometry, folded normalisation, pools."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(3)


def ops(graph):
    return [node.op for node in graph.nodes]


def trained(norm):
    """Running statistics and weights that are not those of a fresh layer."""
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        if norm.affine:
            norm.weight.normal_()
            norm.bias.normal_()
    return norm


CONVOLUTIONS = [
    {"kernel_size": 3, "padding": 1}, {"kernel_size": 3, "stride": 2, "bias": False},
    {"kernel_size": 3, "dilation": 2},
    {"kernel_size": 3, "groups": 2}, {"kernel_size": 3, "padding": "same", "dilation": 2},
    {"kernel_size": 3, "padding": "valid"},
]


@pytest.mark.parametrize("arguments", [*CONVOLUTIONS, {"kernel_size": (3, 1), "stride": (1, 2), "padding": (1, 0)}])
def test_conv2d(captured, arguments):
    model = nn.Sequential(nn.Conv2d(2, 4, **arguments))
    _, conv = captured(model, torch.randn(3, 2, 9, 8)).nodes
    assert conv.op == "conv2d"
    assert conv.tensors == {"weight": "0.weight", **({} if model[0].bias is None else {"bias": "0.bias"})}
    padding = {"same": (2, 2), "valid": (0, 0)}.get(arguments.get("padding"), model[0].padding)
    assert conv.attributes == {"stride": model[0].stride, "padding": padding, "dilation": model[0].dilation,
                               "groups": model[0].groups, "kernel": model[0].kernel_size}


@pytest.mark.parametrize("arguments", CONVOLUTIONS)
def test_conv1d_works_on_pictures_of_one_row(captured, arguments):
    graph = captured(nn.Sequential(nn.Conv1d(2, 4, **arguments)), torch.randn(3, 2, 9))
    assert ops(graph) == ["input", "reshape", "conv2d", "reshape"]
    assert all(graph.nodes[2].attributes[key][0] == neutral for key, neutral in
               (("stride", 1), ("padding", 0), ("dilation", 1)))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("layer", "norm", "shape", "place"), [
    (nn.Linear(6, 4), nn.BatchNorm1d, (6,), 1), (nn.Conv1d(2, 4, 3), nn.BatchNorm1d, (2, 9), 2),
    (nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d, (2, 7, 7), 1)])
def test_normalisation_folds_into_the_layer_before(captured, layer, norm, shape, place, affine):
    graph = captured(nn.Sequential(layer, trained(norm(4, eps=0.01, affine=affine))), torch.randn(3, *shape))
    folded = graph.nodes[place]
    assert "affine" not in ops(graph)
    assert folded.attributes["eps"] == 0.01
    roles = {"norm_mean": "1.running_mean", "norm_var": "1.running_var"}
    if affine:
        roles |= {"norm_weight": "1.weight", "norm_bias": "1.bias"}
    assert {role: name for role, name in folded.tensors.items() if role.startswith("norm")} == roles


class ReadTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3), trained(nn.BatchNorm2d(4))

    def forward(self, x):
        x = self.conv(x)
        return self.norm(x) + x


def test_normalisation_of_what_others_read_does_not_fold(captured):
    assert ops(captured(ReadTwice(), torch.randn(3, 2, 5, 5))) == ["input", "conv2d", "affine", "add"]


def test_normalisation_first_or_twice_stays(captured):
    model = nn.Sequential(trained(nn.BatchNorm1d(6)), nn.Linear(6, 4), trained(nn.BatchNorm1d(4)),
                          trained(nn.BatchNorm1d(4)))
    assert ops(captured(model, torch.randn(3, 6))) == ["input", "affine", "linear", "affine"]


def test_layer_norm_and_positions(captured):
    model = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.LayerNorm((3, 4), elementwise_affine=False, eps=0.1))
    graph = captured(model, torch.randn(5, 3, 6))
    assert [(n.op, n.attributes, n.tensors) for n in graph.nodes[2:]] == [
        ("layer_norm", {"dims": 1, "eps": 1e-5}, {"weight": "1.weight", "bias": "1.bias"}),
        ("layer_norm", {"dims": 2, "eps": 0.1}, {})]


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 7), (6,)])
def test_group_norm_is_a_layer_norm_of_each_group(captured, shape):
    """`captured` compares the graph with the model."""
    norm = nn.GroupNorm(3, 6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    more = ["reshape"] if len(shape) > 1 else []
    steps = ["reshape", "layer_norm", "reshape", "constant", *more, "mul", "constant", *more, "add"]
    model = nn.Sequential(nn.Linear(shape[-1], shape[-1]), norm)
    assert ops(captured(model, torch.randn(3, *shape))) == ["input", "linear", *steps]
    model[1] = nn.GroupNorm(2, 6, eps=0.1, affine=False)
    assert ops(captured(model, torch.randn(3, *shape))) == ["input", "linear", "reshape", "layer_norm", "reshape"]


POOLS = {
    "max": (lambda x: F.max_pool2d(x, 3, 2, 1), "max_pool", (3, 3), (2, 2), (1, 1)),
    "avg": (lambda x: F.avg_pool2d(x, (2, 4)), "avg_pool", (2, 4), (2, 4), (0, 0)),
    "avg padded": (lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), "avg_pool", (3, 3), (1, 1), (1, 1)),
    "adaptive avg": (lambda x: F.adaptive_avg_pool2d(x, (2, 4)), "avg_pool", (4, 2), (4, 2), (0, 0)),
    "adaptive max": (lambda x: F.adaptive_max_pool2d(x, 4), "max_pool", (2, 2), (2, 2), (0, 0)),
    "ceil without remainder": (lambda x: F.max_pool2d(x, 2, ceil_mode=True), "max_pool", (2, 2), (2, 2), (0, 0)),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools(after, name):
    function, op, kernel, stride, padding = POOLS[name]
    assert after(function, 2, 8, 8) == [(op, {"kernel": kernel, "stride": stride, "padding": padding,
                                              "count_include_pad": name != "avg padded"})]


@pytest.mark.parametrize("function", [lambda x: F.max_pool1d(x, 2), lambda x: F.avg_pool1d(x, 3, 2, 1),
                                      lambda x: F.adaptive_avg_pool1d(x, 2), lambda x: F.adaptive_max_pool1d(x, 1)])
def test_pools_of_one_dimension(after, function):
    found = after(function, 4, 8)
    assert [op for op, _ in found] == ["reshape", found[1][0], "reshape"]
    assert found[1][1]["kernel"][0] == found[1][1]["stride"][0] == 1


@pytest.mark.parametrize("function", [
    lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), lambda x: F.max_pool2d(x, 2, dilation=2),
    lambda x: F.adaptive_avg_pool2d(x, 3), lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    lambda x: F.adaptive_max_pool2d(x, 3, return_indices=True)[0],
])
def test_pools_without_a_node_are_left_to_torch(after, function):
    assert [op for op, _ in after(function, 2, 8, 8)] == ["torch"]
