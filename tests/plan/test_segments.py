"""A graph in parts: what goes where, in which order, and that the parts together are the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan import capture, reference
from optprune_fast.plan.graph import Graph
from optprune_fast.plan.lower import lower
from optprune_fast.plan.model import state_of
from optprune_fast.plan.refusal import CannotLower
from optprune_fast.plan.segments import Part, split


class Net(nn.Module):
    """Layers by name, a buffer, and a function of them and the inputs."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.function = nn.ModuleDict(layers), function
        self.register_buffer("matrix", torch.linspace(-1, 1, 16).reshape(4, 4))

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


def fc(inputs: int = 4, outputs: int = 4) -> nn.Linear:
    return nn.Linear(inputs, outputs)


def residual(m: Net, x: Tensor) -> Tensor:
    y = m.layers["a"](x)
    return m.layers["b"](y.cumsum(1).relu()) + y


def two_inputs(m: Net, x: Tensor, z: Tensor) -> Tensor:
    return m.layers["b"]((m.layers["a"](x) + z.cumsum(1)).cumsum(1) * z)


NETS: dict[str, tuple[Net, tuple[tuple[int, ...], ...], list[str]]] = {
    "middle": (Net(lambda m, x: m.layers["b"](m.layers["a"](x).cumsum(1).relu()), a=fc(), b=fc()), ((4,),),
               ["native together: linear", "torch each: torch", "native each: activation linear"]),
    "start": (Net(lambda m, x: m.layers["a"](x.cumsum(1)).relu(), a=fc()), ((4,),),
              ["torch shared: torch", "native together: linear activation"]),
    "end": (Net(lambda m, x: m.layers["a"](x).relu().cumsum(1).relu(), a=fc()), ((4,),),
            ["native together: linear activation", "torch each: torch activation"]),
    "two": (Net(lambda m, x: m.layers["b"](m.layers["a"](x).cumsum(1).relu().flip(1)), a=fc(), b=fc()), ((4,),),
            ["native together: linear", "torch each: torch activation torch", "native each: linear"]),
    "residual": (Net(residual, a=fc(), b=fc()), ((4,),),
                 ["native together: linear", "torch each: torch", "native each: activation linear add"]),
    "apart": (Net(lambda m, x: m.layers["c"](m.layers["a"](x).cumsum(1) + m.layers["b"](x).cumsum(1)), a=fc(), b=fc(),
                  c=fc()), ((4,),),
              ["native together: linear linear reshape reshape concat", "torch each: torch torch",
               "native each: add linear"]),
    "two inputs": (Net(two_inputs, a=fc(), b=fc()), ((4,), (4,)),
                   ["torch shared: torch", "native together: linear add", "torch each: torch",
                    "native each: mul linear"]),
    "constant matrix": (Net(lambda m, x: m.layers["b"](m.layers["a"](x) @ m.matrix), a=fc(), b=fc()), ((4,),),
                        ["native together: linear reshape", "torch each: matmul", "native each: reshape linear"]),
    "unpruned first": (Net(lambda m, x: m.layers["b"](m.layers["whole"](x).cumsum(1)), whole=fc(), b=fc()), ((4,),),
                       ["native shared: linear", "torch shared: torch", "native together: linear"]),
    "pictures": (Net(lambda m, x: m.layers["b"](F.interpolate(m.layers["a"](x).relu(), scale_factor=2)).mean((2, 3)),
                     a=nn.Conv2d(1, 4, 3), b=nn.Conv2d(4, 3, 3)), ((1, 5, 5),),
                 ["native together: conv2d activation", "torch each: torch", "native each: conv2d mean"]),
}


def graph_of(model: nn.Module, shapes: Sequence[tuple[int, ...]], layout: MaskLayout) -> Graph:
    torch.manual_seed(0)
    return capture(model.eval(), tuple(torch.randn(3, *shape) for shape in shapes), {}, layout)


def layout_of(model: Net) -> MaskLayout:
    return MaskLayout.of(model, exclude=["layers.whole.*"] if "whole" in model.layers else [])


def said(part: Part) -> str:
    """Where and when a part runs, and its operations."""
    ops = [node.op for node in part.graph.nodes if node.op not in ("input", "constant")]
    return f"{'native' if part.native else 'torch'} {part.stage}: {' '.join(ops)}"


@pytest.mark.parametrize("name", NETS)
def test_what_goes_where_and_that_the_parts_together_are_the_graph(name: str) -> None:
    model, shapes, wanted = NETS[name]
    layout = layout_of(model)
    graph = graph_of(model, shapes, layout)
    parts = split(graph, layout)
    assert [said(part) for part in parts] == wanted
    state = {key: tensor.double() for key, tensor in state_of(model).items()}
    draw = torch.Generator().manual_seed(1)
    masks = {layer.name: torch.rand(layer.shape, generator=draw) < 0.5 for layer in layout}
    args = tuple(torch.randn(5, *shape, generator=draw, dtype=torch.float64) for shape in shapes)
    names = {node.attributes["index"]: node.output for node in graph.nodes if node.op == "input"}
    values = {names[index]: x for index, x in enumerate(args)}
    for part in parts:
        if part.native:
            assert lower(part.graph, layout, state_of(model), 8).steps
        found = reference.values(part.graph, state, tuple(values[value] for value in part.inputs), {}, masks)
        values.update({value: found[value] for value in part.outputs})
        joined = torch.cat([found[value].flatten(1) for value in part.outputs], 1)
        if part.native:
            assert torch.equal(found[part.graph.output].flatten(1), joined)
    assert torch.equal(values[graph.output], reference.run(graph, state, args, {}, masks))


class Words(nn.Module):
    """Token indices that torch computes from others, and those that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc = nn.Embedding(6, 4), nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        known, computed = self.words(tokens.reshape(-1, 4, 2)[:, :, 0]), self.words(tokens[:, :4].clamp(0, 5))
        return self.fc(known + computed).mean(1)


def test_whole_numbers_and_what_is_looked_up_by_computed_ones_stay_in_torch() -> None:
    model = Words()
    layout = MaskLayout.of(model)
    graph = capture(model, (torch.randint(6, (3, 8)),), {}, layout)
    assert [said(part) for part in split(graph, layout)] == [
        "torch shared: reshape slice reshape slice torch embedding",
        "native together: embedding add linear mean"]


def test_pruned_weights_never_go_to_torch() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    layout = MaskLayout.of(model, include=[nn.Embedding, nn.Linear])
    graph = capture(model, (torch.randint(5, (3, 2)),), {}, layout)
    with pytest.raises(CannotLower, match="an embedding whose weight is pruned"):
        split(graph, layout)


def test_a_network_that_uses_no_pruned_weight_has_no_parts() -> None:
    model = Net(lambda m, x: m.layers["whole"](x).cumsum(1), whole=fc(), idle=fc())
    layout = layout_of(model)
    with pytest.raises(CannotLower, match=r"aten\.cumsum\.default has no native step"):
        split(graph_of(model, ((4,),), layout), layout)
