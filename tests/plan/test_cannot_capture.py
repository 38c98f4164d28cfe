"""What has no graph says why; what torch must run is a torch node that keeps samples apart."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan import CannotCapture, capture
from optprune_fast.plan.check import check
from optprune_fast.plan.model import state_of


class After(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.register_buffer("seen", torch.zeros(6))
        self.function = function

    def forward(self, x):
        return self.function(self, self.fc(x))


def refused(model, *args, layout=None):
    with pytest.raises(CannotCapture) as failure:
        capture(model, args, {}, layout or MaskLayout.of(model))
    return str(failure.value)


def write_through_a_view(_, x):
    x[:, 0] = 1
    return x


def read_under_another_name(_, x):
    view = x.view(-1, 2, 3)
    x.relu_()
    return view.flatten(1)


@pytest.mark.parametrize(("reason", "function"), [
    ("torch.export gave up", lambda m, x: x if x.sum() > 0 else -x),
    ("samples are mixed", lambda m, x: x - x.mean(0)),
    ("samples are mixed", lambda m, x: x - x.mean(0, keepdim=True)),
    ("samples are mixed", lambda m, x: x / x.max()),
    ("samples are mixed", lambda m, x: x - x.mean()),
    ("samples are mixed", lambda m, x: x.softmax(0)),
    ("samples are mixed", lambda m, x: x @ x.mT),
    ("samples are mixed", lambda m, x: torch.cat([x, x])),
    ("samples are mixed", lambda m, x: x.view(-1, 2).relu().view(-1, 6)),
    ("mixes samples", lambda m, x: x.flip(0)),
    ("mixes samples", lambda m, x: x.cumsum(0)),
    ("mixes samples", lambda m, x: x / x.shape[0]),
    ("running statistics", lambda m, x: F.batch_norm(x, None, None, training=True)),
    ("first dimension is not the batch", lambda m, x: x.view(-1, 2, 3).transpose(0, 1).relu().transpose(0, 1)),
    ("first dimension is not the batch", lambda m, x: x[1:]),
    ("number of samples", lambda m, x: x + torch.arange(x.shape[0])[:, None]),
    ("number of samples", lambda m, x: x + torch.full((6,), x.shape[0])),
    ("random numbers", lambda m, x: F.dropout(x, 0.5, training=True)),
    ("random numbers", lambda m, x: x + torch.rand(6)),
    ("random numbers", lambda m, x: x + torch.rand_like(x)),
    ("another name", write_through_a_view),
    ("another name", read_under_another_name),
    ("changes the number of samples", lambda m, x: x.nonzero().float()),
    ("depends on the values of the data", lambda m, x: x * m.seen.sum().item()),
    ("not a plain operation", lambda m, x: torch.cond(m.seen.sum() > 0, torch.sin, torch.cos, (x,))),
    ("fixes the number of samples", lambda m, x: x.reshape(len(x), 6) + 1),
    ("writes into", lambda m, x: m.seen.add_(1) + x),
    ("torch.bool", lambda m, x: torch.where(x > 0, x, -x)),
    ("torch.float64", lambda m, x: (x.double() * 2).float()),
    ("does not depend", lambda m, x: m.seen + 1),
    ("fc.weight is pruned", lambda m, x: x + m.fc.weight.sum()),
    ("fc.weight is pruned", lambda m, x: F.linear(x, m.fc.weight.T)),
    ("torch.export gave up", lambda m, x: "no tensor"),
])
def test_reasons(reason, function):
    torch.manual_seed(0)
    for samples in (torch.randn(3, 6), torch.zeros(1, 6)):
        assert reason in refused(After(function), samples)


def test_reasons_in_the_arguments():
    model = After(lambda m, x: x)
    assert "without a tensor" in refused(model)
    assert "without a sample" in refused(model, torch.zeros(0, 6))
    assert "no entry for each sample" in refused(model, torch.zeros(3, 6), torch.zeros(4))
    assert "mixes dtypes" in refused(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), torch.zeros(3, 2))
    assert "float64" in refused(nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), torch.zeros(3, 2).double())


def test_a_graph_of_another_model_is_found_out():
    torch.manual_seed(0)
    x = torch.randn(3, 6)
    one, other = After(lambda m, x: x.relu()), After(lambda m, x: x.relu() + 0.01)
    other.fc = one.fc
    graph = capture(one, (x,), {}, MaskLayout.of(one))
    check(graph, one, state_of(one), (x,), {})
    with pytest.raises(CannotCapture, match="other outputs than the model"):
        check(graph, other, state_of(other), (x,), {})


def test_pruned_tensors_that_are_no_weights_of_layers():
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.ConvTranspose1d(2, 2, 1))
    for name in ("0.bias", "1.weight"):
        assert name in refused(model[:2], torch.zeros(3, 2), layout=MaskLayout.of(model, include=name))
    assert "2.weight" in refused(model, torch.zeros(3, 2, 2), layout=MaskLayout.of(model, include="2.weight"))


def test_a_padding_of_unequal_sides_is_no_layer():
    model = nn.Sequential(nn.Conv2d(1, 1, 2, padding="same"))
    assert "0.weight is pruned" in refused(model, torch.zeros(3, 1, 4, 4))


@pytest.mark.parametrize(("name", "function"), [
    ("aten.cumsum.default", lambda x: x.cumsum(1)), ("aten.flip.default", lambda x: x.flip(1)),
    ("aten.exp_.default", lambda x: x.exp_()), ("aten.max.dim", lambda x: x.unflatten(1, (2, 3)).max(2).values),
    ("aten.expand.default", lambda x: x.unsqueeze(1).expand(-1, 2, -1)),
    ("aten.new_zeros.default", lambda x: x.new_zeros(x.shape[0], 2) + x[:, :2]),
    ("aten.atan2.default", lambda x: torch.atan2(x, torch.ones(6, dtype=x.dtype))),
    ("aten.atan2.default", lambda x: torch.atan2(x, torch.ones(1, 6, dtype=x.dtype).expand(x.shape[0], -1))),
])
def test_what_has_no_node_runs_in_torch(after, name, function):
    assert [at["name"] for op, at in after(function, 6) if op == "torch"] == [name]
