"""Few samples: pictures are cut into bands of rows, so that the lanes of a register are full.

    sample of H rows  ─▶  `bands` samples of h rows  ─▶  halo ─▶ conv2d ─▶ halo ─▶ conv2d ─▶ … ─▶ gather  ─▶  H' rows

A band has what a convolution reads beyond it from its neighbours (halo), so the sums are those of the whole picture.
"""

from __future__ import annotations

import math
from dataclasses import replace

from optprune_fast.plan.graph import Graph, Node

POINTWISE = {"activation", "add", "sub", "mul", "scale", "affine"}


def in_bands(graph: Graph, bands: int) -> Graph | None:
    """The same graph on samples that are cut into `bands` bands each; None where that brings nothing.

    The input is one picture [C, H, W], and has the shape [C, h, W] in the result: its rows, and zeros up to
    `bands * h`, band by band. Convolutions, pooling without overlap and sums stay in bands; what else reads them has
    them gathered.
    """
    inputs = [node for node in graph.nodes if node.op == "input"]
    if len(inputs) != 1 or len(graph.shapes[inputs[0].output]) != 3 or inputs[0].output in graph.integers:
        return None
    cut = _cut(graph)
    if not any(node.op == "conv2d" and node.output in cut for node in graph.nodes):
        return None
    whole = math.lcm(*cut.values())
    if any(graph.shapes[value][1] == 0 for value in cut):
        return None
    times = max(-(-graph.shapes[value][1] * step // (bands * whole)) for value, step in cut.items())
    return _Rewriting(graph, bands, {value: times * whole // step for value, step in cut.items()}).run()


def _cut(graph: Graph) -> dict[int, int]:
    """Value that stays in bands -> rows of the input to a row of it."""
    cut: dict[int, int] = {}
    for node in graph.nodes:
        steps = {cut.get(value) for value in node.inputs}
        if node.op == "input":
            cut[node.output] = 1
        if len(steps) != 1 or None in steps:
            continue
        step = next(found for found in steps if found is not None)
        if node.op == "conv2d":
            cut[node.output] = step * node.attributes["stride"][0]
        elif node.op in ("max_pool", "avg_pool"):
            apart = node.attributes["kernel"][0] == node.attributes["stride"][0]
            if apart and node.attributes["padding"][0] == 0:
                cut[node.output] = step * node.attributes["stride"][0]
        elif (node.op in POINTWISE and all(graph.shapes[v] == graph.shapes[node.output] for v in node.inputs)) or (
                node.op == "concat" and node.attributes["dim"] % 3 == 0):
            cut[node.output] = step
    return cut


class _Rewriting:
    """height: value in bands -> rows of a band."""

    def __init__(self, graph: Graph, bands: int, height: dict[int, int]) -> None:
        self.graph, self.bands, self.height = graph, bands, height
        self.nodes: list[Node] = []
        self.shapes = {value: (shape[0], height[value], *shape[2:]) if value in height else shape
                       for value, shape in graph.shapes.items()}
        self.next = 1 + max(graph.shapes)
        self.made: dict[tuple[int, str], int] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            inputs = node.inputs
            if node.output not in self.height:
                inputs = tuple(self.gathered(value) if value in self.height else value for value in inputs)
            elif node.op == "conv2d":
                inputs = (self.with_halo(inputs[0]),)
            self.nodes.append(replace(node, inputs=inputs))
        output = self.graph.output
        output = self.gathered(output) if output in self.height else output
        return Graph(tuple(self.nodes), output, self.shapes, self.graph.integers)

    def add(self, op: str, value: int, shape: tuple[int, ...], **attributes: object) -> int:
        """A node on a value, once."""
        if (value, op) not in self.made:
            self.made[value, op], self.next = self.next, self.next + 1
            self.shapes[self.made[value, op]] = shape
            self.nodes.append(Node(op, (value,), self.made[value, op], {"bands": self.bands, **attributes}, {}))
        return self.made[value, op]

    def gathered(self, value: int) -> int:
        return self.add("gather", value, self.graph.shapes[value])

    def with_halo(self, value: int) -> int:
        """The value for all convolutions that read it."""
        above = below = across = 0
        for node in self.graph.nodes:
            if node.op == "conv2d" and node.inputs == (value,):
                at = node.attributes
                reach = at["dilation"][0] * (at["kernel"][0] - 1) - at["padding"][0] - at["stride"][0] + 1
                above, below = max(above, at["padding"][0]), max(below, reach)
                across = max(across, at["padding"][1])
        if above == below == across == 0:
            return value
        return self.add("halo", value, self.shapes[value], height=self.graph.shapes[value][1], above=above,
                        below=below, padding=(max(above, below), across))
