"""Whole networks: captured, checked in float64 on other samples and under masks, and left as they were."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.models import MLP, DepthwiseNet, LeNet5, ResNet20, TinyTransformer
from optprune_fast.plan import capture, reference
from optprune_fast.plan.model import state_of

NETWORKS = {
    "mlp": (lambda: MLP([70, 33, 5]), (70,)), "lenet5": (LeNet5, (1, 28, 28)),
    "resnet20": (lambda: ResNet20(3, 4, width=2), (3, 9, 8)), "depthwise": (lambda: DepthwiseNet(2, 4, 3), (2, 9, 8)),
    "transformer": (lambda: TinyTransformer(1, 8, 5, patch=4, width=8, heads=2, layers=1), (1, 8, 8)),
}
NATIVE = {"input", "constant", "linear", "conv2d", "activation", "add", "mean", "max_pool", "reshape", "permute",
          "layer_norm", "matmul", "scale", "softmax"}


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_reference_networks_need_no_torch_node(captured, name, samples):
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    model = make()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    graph = captured(model, torch.randn(samples, *shape))
    assert {node.op for node in graph.nodes} <= NATIVE
    layers = {node.tensors["weight"] for node in graph.nodes if node.op in ("linear", "conv2d")}
    assert layers == {layer.name for layer in MaskLayout.of(model)}


class Tokens(nn.Module):
    """Embedding, positions, a causal block whose feed-forward works in place, a head tied to the embedding."""

    def __init__(self, words=11, width=6, length=5):
        super().__init__()
        self.words, self.positions = nn.Embedding(words, width), nn.Embedding(length, width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down, self.norm = nn.Linear(width, 2 * width), nn.Linear(2 * width, width), nn.LayerNorm(width)
        self.dropout, self.act = nn.Dropout(0.3), nn.ReLU(inplace=True)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens):
        x = self.words(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        query, key, value = (part.unflatten(-1, (2, -1)).transpose(1, 2)
                             for part in self.qkv(self.norm(x)).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        x = x + self.down(self.act(self.up(x)))
        return {"hidden": x, "logits": self.head(x[:, -1])}


def test_tokens_attention_and_tied_weights(captured):
    torch.manual_seed(0)
    model, tokens = Tokens(), torch.randint(11, (4, 5))
    graph = captured(model, tokens)
    assert "torch" not in {node.op for node in graph.nodes}
    tied = [node.op for node in graph.nodes if node.tensors.get("weight") == "words.weight"]
    assert tied == ["embedding", "linear"]
    assert graph.integers == {graph.nodes[0].output}


def test_constants_follow_the_state():
    model = Tokens()
    graph = capture(model, (torch.randint(11, (4, 5)),), {}, MaskLayout.of(model))
    before = graph.constants(state_of(model))
    with torch.no_grad():
        model.positions.weight.add_(1)
    after = graph.constants(state_of(model))
    moved = [value for value in before if not torch.equal(before[value], after[value])]
    assert [tuple(before[value].shape) for value in moved] == [(5, 6)]


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, x, factor=1.0, *, other, flag=False):
        return self.a(x) * factor + self.b(other) if flag else None


def test_keywords_and_arguments_that_are_no_tensors(captured):
    graph = captured(Named(), torch.randn(3, 4), 2.5, other=torch.randn(3, 2), flag=True)
    assert [node.attributes["index"] for node in graph.nodes if node.op == "input"] == [0, "other"]


@pytest.mark.parametrize("training", [True, False])
def test_the_model_stays_as_it_is(training):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8, 3))
    model.train(training)
    model[1].eval()
    copy, modes = deepcopy(model.state_dict()), [m.training for m in model.modules()]
    parameters, draws = list(map(id, model.parameters())), torch.get_rng_state()
    capture(model, (torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1)),), {}, MaskLayout.of(model))
    assert [m.training for m in model.modules()] == modes
    assert list(map(id, model.parameters())) == parameters
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(copy[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), draws)


def test_masks_are_what_counts():
    """The oracle reads its masks: dropping everything leaves the biases."""
    model = nn.Sequential(nn.Linear(4, 3))
    x = torch.randn(3, 4)
    graph = capture(model, (x,), {}, MaskLayout.of(model))
    out = reference.run(graph, state_of(model), (x,), {}, {"0.weight": torch.zeros(3, 4, dtype=torch.bool)})
    assert torch.equal(out, model[0].bias.detach().expand(3, 3))
