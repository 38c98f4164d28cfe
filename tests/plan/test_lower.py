"""A graph as a program: what melts into what, who reads a row, how a change spreads, what has no native step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.models import MLP, DepthwiseNet, LeNet5
from optprune_fast.models.transformer import Layer
from optprune_fast.plan import capture
from optprune_fast.plan.graph import Graph
from optprune_fast.plan.lower import chained, lower
from optprune_fast.plan.model import state_of
from optprune_fast.plan.program import Program
from optprune_fast.plan.refusal import CannotLower
from optprune_fast.plan.spread import spreads
from optprune_fast.testing.nets import Net


def graph_of(model: nn.Module, *shape: int) -> Graph:
    return capture(model.eval(), (torch.randn(3, *shape),), {}, MaskLayout.of(model))


def program_of(model: nn.Module, *shape: int, reuse: bool = True) -> Program:
    return lower(graph_of(model, *shape), MaskLayout.of(model), state_of(model), 8, reuse=reuse)


def ops(program: Program) -> list[str]:
    return [step.op for step in program.steps]


def test_activations_norms_residuals_and_pools_melt_into_layers() -> None:
    assert ops(program_of(MLP([6, 5, 4]), 6)) == ["linear", "linear", "loss"]
    assert ops(program_of(LeNet5(), 1, 28, 28)) == ["conv2d", "conv2d", "widen", "linear", "linear", "linear", "loss"]
    model = Net(lambda m, x: F.max_pool2d((m["n"](m["a"](x)) + x).relu(), 2), a=nn.Conv2d(2, 2, 3, padding=1),
                n=nn.BatchNorm2d(2))
    program = program_of(model, 2, 6, 6)
    assert ops(program) == ["conv2d", "widen", "loss"]
    assert program.steps[0].activation[0] == "relu"
    assert program.steps[0].numbers[6:] == (1, 1)


@pytest.mark.parametrize("kind", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.7)], ids=str)
def test_activations_that_cut_off_melt_into_convolutions(kind: nn.Module) -> None:
    program = program_of(nn.Sequential(nn.Conv2d(2, 3, 3), kind), 2, 6, 6)
    assert ops(program) == ["conv2d", "widen", "loss"]
    assert program.steps[0].activation[0] != "none"
    curve = program_of(nn.Sequential(nn.Conv2d(2, 3, 3), nn.SiLU()), 2, 6, 6)
    assert "activation" in ops(curve)


def test_a_product_is_scaled_before_it_is_written() -> None:
    scaled = program_of(Net(lambda m, x: (x @ x.mT) * 0.25 @ m["a"](x), a=nn.Linear(4, 4)), 5, 4)
    assert ops(scaled) == ["matmul", "linear", "matmul", "widen", "loss"]
    extra = [step.extra for step in scaled.steps if step.op == "matmul"]
    assert extra[0] is not None
    assert (extra[0].tolist(), extra[1]) == ([0.25, 0.0], None)


def test_a_value_that_two_read_is_not_melted() -> None:
    both = Net(lambda m, x: (lambda y: y + y.relu())(m["a"](x)), a=nn.Linear(4, 4))
    assert ops(program_of(both, 4)) == ["linear", "activation", "add", "loss"]
    twice = Net(lambda m, x: (lambda y: y + y * 0.25)(x @ x.mT) @ m["a"](x), a=nn.Linear(4, 4))
    assert ops(program_of(twice, 5, 4)).count("scale") == 1


def test_nothing_is_turned_on_the_way_through_an_encoder_layer() -> None:
    """Inputs, norms and sums lie as the linear layers read them."""
    program = program_of(Layer(8, 2), 5, 8)
    assert "copy" not in [step.name for step in program.steps]
    assert program.inputs[0].placed.strides == (1, 5)


def test_rows_that_would_share_the_sets_of_a_cache_lie_apart() -> None:
    apart, together = (program_of(Net(lambda m, x: m["a"](x).mean(1), a=nn.Linear(4, 6)), positions, 4)
                       for positions in (32, 31))
    for program, step in ((apart, 34), (together, 31)):
        (out,) = [step.out for step in program.steps if step.op == "linear"]
        assert (out.strides, out.buffer.size) == ((step, 1), 5 * step + out.shape[1])


def consumers(model: nn.Module, *shape: int) -> list[tuple[tuple[int, int], ...]]:
    return [layer.consumers for layer in program_of(model, *shape).layers]


def test_readers_of_rows() -> None:
    """(layer, columns a row): through activations, pools and views; nobody where a row goes elsewhere."""
    assert consumers(MLP([6, 5, 4]), 6) == [((1, 1),), ()]
    assert consumers(LeNet5(), 1, 28, 28)[:2] == [((1, 25),), ((2, 25),)]
    assert consumers(DepthwiseNet(2, 4, width=3), 2, 8, 8)[0] == ()  # a depthwise filter reads its own channel only
    forked = Net(lambda m, x: (lambda y: m["b"](y) + m["c"](y))(m["a"](x)), a=nn.Linear(4, 4), b=nn.Linear(4, 2),
                 c=nn.Linear(4, 2))
    assert consumers(forked, 4) == [((1, 1), (2, 1)), (), ()]
    kept = Net(lambda m, x: (lambda y: m["b"](y) + y)(m["a"](x)), a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    assert consumers(kept, 4) == [(), ()]  # the sum reads every row
    cut = Net(lambda m, x: m["b"](m["a"](x)[:, :2]), a=nn.Linear(4, 4), b=nn.Linear(2, 2))
    assert consumers(cut, 4) == [(), ()]


def test_chains() -> None:
    assert chained(graph_of(MLP([6, 5, 4]), 6)) == 2
    assert chained(graph_of(nn.Linear(4, 4), 4)) == 1
    assert chained(graph_of(nn.Sequential(*(nn.Linear(4, 4) for _ in range(17))), 4)) == 16  # what the kernel holds
    assert chained(graph_of(nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), 4)) == 0
    assert chained(graph_of(Net(lambda m, x: m["a"](x) + x, a=nn.Linear(4, 4)), 4)) == 0
    assert chained(graph_of(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Tanh(), nn.Linear(4, 4)), 4)) == 0
    assert chained(graph_of(LeNet5(), 1, 28, 28)) == 3
    assert chained(graph_of(DepthwiseNet(2, 4, width=3), 2, 9, 8)) == 0  # one layer behind the others


def test_changes_spread_unit_by_unit_where_they_can() -> None:
    found = spreads(program_of(LeNet5(), 1, 28, 28, reuse=False))
    # conv 1, conv 2 (16 channels of 25), widen, fc 1 (25 features a channel), fc 2, fc 3, loss
    assert [units for units, _ in found] == [6, 16, 400, 120, 84, 10, 0]
    assert [links for _, links in found[:2]] == [[], [(0, 1, 1)]]
    assert [producer for producer, _, _ in found[-1][1]] == [5]


def test_a_step_without_a_native_form_is_named() -> None:
    with pytest.raises(CannotLower, match=r"aten\.cumsum\.default has no native step"):
        program_of(Net(lambda m, x: m["a"](x).cumsum(1), a=nn.Linear(4, 3)), 4)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    layout = MaskLayout.of(model, include=[nn.Embedding, nn.Linear])
    graph = capture(model, (torch.randint(5, (3, 2)),), {}, layout)
    with pytest.raises(CannotLower, match="an embedding whose weight is pruned"):
        lower(graph, layout, state_of(model), 8)
