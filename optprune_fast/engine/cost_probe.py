"""What a multiply-add, an element and a byte take on this machine: small programs, run for a few milliseconds."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from optprune_fast.engine.cost import Coefficients, Counts, counts_of
from optprune_fast.engine.population import Population
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import random_masks
from optprune_fast.plan.graph import Graph, Node
from optprune_fast.plan.program import ACTIVATIONS

Operation = tuple[str, dict[str, Any]]  # of a node, and its attributes
SAMPLES = 64
REPEATS = 5  # the fastest counts: whatever else the machine did made the others slower
SHARES = {"list": 0.02, "words": 0.6, "sums": 0.05, "skip": 0.3, "dense": 1.0}
PLACES = {"first level": 16, "second level": 512, "beyond": 8192}  # features whose tile lies there


@cache
def probe(isa: str) -> Coefficients:
    """What `measure` finds for the instruction set in use, once in a process, when somebody asks."""
    return measure()


def measure() -> Coefficients:
    """One thing after the other, each from what is left of its steps' time when the things before it are taken off."""
    known: dict[str, float] = {}
    for level, features in PLACES.items():
        _learn(known, level, *_run(_chain([(features,)] * 4, [("scale", {"factor": 1.0, "shift": 0.5})] * 3)))
    every: list[Operation] = [("activation", {"kind": kind, "parameters": _parameters(kind)})
                              for kind in ACTIVATIONS[1:]]
    every += [("softmax", {"dim": 2, "log": False}), ("layer_norm", {"dims": 1, "eps": 1e-5}),
              ("matmul", {}), ("softmax", {"dim": 2, "log": True})]
    pools = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
    every += [("max_pool", pools), ("avg_pool", pools), ("mean", {"dims": (1, 2), "keepdim": False})]
    shapes: list[tuple[int, ...]] = [(8, 16, 16)] * (len(every) - 2) + [(8, 8, 8), (8, 4, 4), (8,)]
    counts, spent = _run(_chain(shapes, every))
    for what in (*ACTIVATIONS[1:], "softmax", "layer_norm", "matmul", "log_softmax", "max_pool", "avg_pool", "mean",
                 "loss"):
        _learn(known, what, counts, spent)
    linear = _chain([(256,), (256,)], [("linear", {})])
    padded = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    conv = _chain([(16, 12, 12), (16, 12, 12)], [("conv2d", padded)])
    for what in ("linear list", "linear dense", "linear words", "sums"):
        _learn(known, what, *_run(linear, SHARES[what.removeprefix("linear ")], (256, 256)))
    for what in ("conv2d skip", "conv2d dense"):
        _learn(known, what, *_run(conv, SHARES[what.removeprefix("conv2d ")], (16, 16, 3, 3)))
    return Coefficients(known)


def _learn(known: dict[str, float], what: str, counts: list[Counts], spent: list[float]) -> None:
    """The least that a step with `what` leaves for it, over all steps that have it."""
    rate = Coefficients(known)
    left = [(nanoseconds - rate(count)) / count[what] for count, nanoseconds in zip(counts, spent, strict=True)
            if count.get(what, 0.0) > 0]
    known[what] = max(0.0, min(left))


def _parameters(kind: str) -> tuple[float, ...]:
    return {"leaky_relu": (0.1,), "elu": (1.0,), "hardtanh": (-1.0, 1.0)}.get(kind, ())


def _chain(shapes: list[tuple[int, ...]], operations: list[Operation]) -> Graph:
    """One operation after another; a product takes its input twice."""
    nodes = [Node("input", (), 0, {"index": 0}, {})]
    for index, (op, attributes) in enumerate(operations):
        inputs = (index, index) if op == "matmul" else (index,)
        nodes.append(Node(op, inputs, index + 1, attributes, {"weight": "w"} if op in ("linear", "conv2d") else {}))
    return Graph(tuple(nodes), len(operations), dict(enumerate(shapes)))


def _run(graph: Graph, share: float = 1.0, weight: tuple[int, ...] = (1, 1)) -> tuple[list[Counts], list[float]]:
    """(what each step of its program does, nanoseconds of each), for one sample."""
    layout = MaskLayout.from_shapes({"w": weight})
    engine = Population(graph, layout, {"w": torch.full(weight, 0.01)}, SAMPLES)
    masks = random_masks(layout, math.ceil(share * layout.n), [0])
    turned = engine.turn({0: torch.randn(SAMPLES, *graph.shapes[0])}, SAMPLES, None)
    seconds: Tensor = torch.stack([engine.seconds(masks.words, turned, "mse_to_dense", None)
                                   for _ in range(REPEATS)]).amin(0)
    kept = [share] * len(engine.program.layers)
    return counts_of(engine.program, kept, engine.lanes), (1e9 / SAMPLES * seconds).tolist()
