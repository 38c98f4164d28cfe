"""The engine's kernels on graphs written by hand, beside the reference: no tracer, so sanitizers run them too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optprune_fast.engine.population import Population
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks, swap
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.plan.graph import Graph, Node
from optprune_fast.plan.reference import run
from optprune_fast.runtime import native

pytestmark = pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")


class Sketch:
    """A graph in the making, over the layers of a module.

    shapes:  value id -> shape of one sample
    """

    def __init__(self, **layers: nn.Module) -> None:
        self.model = nn.ModuleDict(layers).eval().requires_grad_(False)
        self.nodes: list[Node] = []
        self.shapes: dict[int, tuple[int, ...]] = {}

    def add(self, op: str, *inputs: int, shape: tuple[int, ...], tensors: dict[str, str] | None = None,
            **attributes: Any) -> int:
        value = len(self.nodes)
        self.nodes.append(Node(op, inputs, value, attributes, tensors or {}))
        self.shapes[value] = shape
        return value

    def input(self, *shape: int, index: int = 0) -> int:
        return self.add("input", shape=shape, index=index)

    def activation(self, x: int, kind: str = "relu") -> int:
        return self.add("activation", x, shape=self.shapes[x], kind=kind, parameters=())

    def linear(self, x: int, name: str) -> int:
        shape = (*self.shapes[x][:-1], self.model[name].out_features)
        return self.add("linear", x, shape=shape, tensors=self._tensors(name))

    def conv2d(self, x: int, name: str, norm: str = "") -> int:
        layer: Any = self.model[name]
        _, height, width = self.shapes[x]
        size = (1 + (n + 2 * p - d * (k - 1) - 1) // s for n, k, s, p, d in zip(
            (height, width), layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True))
        more = {}
        if norm:
            roles = {"norm_weight": "weight", "norm_bias": "bias", "norm_mean": "running_mean",
                     "norm_var": "running_var"}
            more = {role: f"{norm}.{name_}" for role, name_ in roles.items()}
        return self.add("conv2d", x, shape=(layer.out_channels, *size), tensors={**self._tensors(name), **more},
                        stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups,
                        **({"eps": 1e-5} if norm else {}))

    def pool(self, op: str, x: int, kernel: int, stride: int, padding: int = 0) -> int:
        channels, height, width = self.shapes[x]
        size = ((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
        return self.add(op, x, shape=(channels, *size), kernel=(kernel, kernel), stride=(stride, stride),
                        padding=(padding, padding), count_include_pad=True)

    def flat(self, x: int) -> int:
        shape = (torch.Size(self.shapes[x]).numel(),)
        return self.add("reshape", x, shape=shape)

    def _tensors(self, name: str) -> dict[str, str]:
        bias = getattr(self.model[name], "bias", None)
        return {"weight": f"{name}.weight", **({} if bias is None else {"bias": f"{name}.bias"})}

    def finish(self, output: int) -> tuple[Graph, MaskLayout, dict[str, Tensor]]:
        return (Graph(tuple(self.nodes), output, self.shapes), MaskLayout.of(self.model),
                dict(self.model.state_dict()))


def chain() -> Sketch:
    """Linear layers, one after another: moves go by differences."""
    sketch = Sketch(a=nn.Linear(150, 33), b=nn.Linear(33, 20), c=nn.Linear(20, 5))
    x = sketch.input(150)
    for name in "ab":
        x = sketch.activation(sketch.linear(x, name))
    sketch.linear(x, "c")
    return sketch


def pictures() -> Sketch:
    """Borders, a folded normalisation, a residual, pooling that leaves a row and a column over."""
    sketch = Sketch(a=nn.Conv2d(2, 4, 3, padding=1), n=nn.BatchNorm2d(4), b=nn.Conv2d(4, 4, 3, padding=1, bias=False),
                    fc=nn.Linear(48, 3))
    x = sketch.input(2, 9, 7)
    first = sketch.activation(sketch.conv2d(x, "a", "n"))
    both = sketch.add("add", sketch.conv2d(first, "b"), first, shape=(4, 9, 7))
    sketch.linear(sketch.flat(sketch.pool("max_pool", sketch.activation(both), 2, 2)), "fc")
    return sketch


def groups() -> Sketch:
    """Strides, dilation, groups, average pooling over a border, concatenation, an activation that is no ReLU."""
    sketch = Sketch(a=nn.Conv2d(2, 6, 3, stride=2, padding=1), b=nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6),
                    c=nn.Conv2d(12, 3, (2, 3), groups=3), fc=nn.Linear(12, 4))
    x = sketch.activation(sketch.conv2d(sketch.input(2, 11, 9), "a"), "silu")
    y = sketch.conv2d(x, "b")
    both = sketch.add("concat", x, y, shape=(12, 6, 5), dim=0)
    z = sketch.pool("avg_pool", sketch.conv2d(both, "c"), 3, 2, 1)
    z = sketch.add("slice", z, shape=(3, 2, 2), dim=1, start=0, length=2, step=1)
    sketch.linear(sketch.flat(z), "fc")
    return sketch


def attention() -> Sketch:
    """Positions: normalisation, products of two values, softmax, GELU, the mean over positions."""
    layers = {name: nn.Linear(8, 8) for name in ("q", "k", "v")}
    sketch = Sketch(**layers, n=nn.LayerNorm(8), up=nn.Linear(8, 13), head=nn.Linear(13, 3))
    x = sketch.input(5, 8)
    normed = sketch.add("layer_norm", x, shape=(5, 8), tensors={"weight": "n.weight", "bias": "n.bias"}, dims=1,
                        eps=1e-5)
    q, k, v = (sketch.linear(normed, name) for name in "qkv")
    turned = sketch.add("permute", k, shape=(8, 5), dims=(1, 0))
    scores = sketch.add("matmul", q, turned, shape=(5, 5))
    scores = sketch.add("scale", scores, shape=(5, 5), factor=0.35, shift=0.0)
    scores = sketch.add("softmax", scores, shape=(5, 5), dim=1, log=False)
    mixed = sketch.add("matmul", scores, v, shape=(5, 8))
    y = sketch.add("add", x, mixed, shape=(5, 8))
    y = sketch.activation(sketch.linear(y, "up"), "gelu")
    y = sketch.add("mean", y, shape=(13,), dims=(0,), keepdim=False)
    sketch.linear(y, "head")
    return sketch


SKETCHES = {sketch.__name__: sketch for sketch in (chain, pictures, groups, attention)}


@pytest.mark.parametrize("samples", [1, 9, 65])
@pytest.mark.parametrize("density", [0.02, 0.06, 0.4, 0.97])
@pytest.mark.parametrize("name", SKETCHES)
def test_fitness_and_moves_are_those_of_the_reference(name: str, density: float, samples: int, monkeypatch) -> None:
    torch.manual_seed(5)
    sketch = SKETCHES[name]()
    graph, layout, state = sketch.finish(len(sketch.nodes) - 1)
    exact = {key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    inputs = torch.randn(samples, *graph.shapes[0])
    targets = torch.randint(graph.shapes[graph.output][0], (samples,))
    masks = random_masks(layout, max(2, round(density * layout.n)), candidate_seeds(3, 0, 3))
    moves = torch.stack([torch.randperm(layout.n)[:4] for _ in range(5)])
    moves[1, 2:] = -1

    def losses(masks: PackedMasks) -> Tensor:
        kept = ({key: bits[p] for key, bits in masks.to_dense().items()} for p in range(len(masks)))
        outputs = (run(graph, exact, (inputs.double(),), {}, one) for one in kept)
        return torch.stack([F.cross_entropy(out, targets, reduction="sum") for out in outputs])

    wanted, moved = losses(masks), losses(swap(masks[0], moves))
    for isa in native.isas():
        for threads in ("1", "2"):
            monkeypatch.setenv("OPTPRUNE_ISA", isa)
            monkeypatch.setenv("OPTPRUNE_THREADS", threads)
            for keep in (False, True):
                engine = Population(graph, layout, state, samples, keep=keep)
                turned = engine.turn({0: inputs}, samples, None)
                found = engine.sums(masks.words, turned, targets, "cross_entropy")
                torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
            found = engine.move_sums(masks[0].words, moves, turned, targets, "cross_entropy")
            torch.testing.assert_close(found, moved, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("density", [0.02, 0.06, 0.4, 0.97, 1.0])
def test_lists_words_and_dense_rows_of_weights_give_equal_bits(density: float, monkeypatch) -> None:
    torch.manual_seed(6)
    sketch = chain()
    graph, layout, state = sketch.finish(len(sketch.nodes) - 1)
    mask = random_masks(layout, round(density * layout.n), candidate_seeds(4, 0, 1))
    inputs, targets = torch.randn(70, 150), torch.randint(5, (70,))
    nothing = torch.full((1, 1), -1)
    for isa in native.isas():
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
        engines = [Population(graph, layout, state, 70, keep=keep) for keep in (False, True)]
        turned = engines[0].turn({0: inputs}, 70, None)
        by_density = engines[0].sums(mask.words, turned, targets, "cross_entropy")
        by_lists = engines[1].move_sums(mask.words, nothing, turned, targets, "cross_entropy")
        assert torch.equal(by_density, by_lists), isa
