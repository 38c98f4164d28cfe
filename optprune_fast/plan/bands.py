"""Few samples: pictures are cut into bands of rows, so that the lanes of a register are full.

    sample of H rows  ─▶  `bands` samples of h rows  ─▶  halo ─▶ conv2d ─▶ … ─▶ regroup ─▶ … ─▶ gather  ─▶  H' rows

A band has what a convolution reads beyond it from its neighbours (halo), so the sums are those of the whole picture.
Between zones of values (band_rows.py) rows go to bands of another height: regroup; gather: to one of all rows.
"""

from __future__ import annotations

import math
from dataclasses import replace

from optprune_fast.plan.band_rows import band_rows, is_spread, reads_beyond, rows_read
from optprune_fast.plan.graph import Graph, Node


def in_bands(graph: Graph, bands: int) -> Graph | None:
    """The same graph on samples that are cut into `bands` bands each; None where that brings nothing.

    The input is one picture [C, H, W], and has the shape [C, h, W] in the result: its rows, and zeros up to
    `bands * h`, band by band. Convolutions, pooling without overlap and sums stay in bands; what else reads them has
    them gathered.
    """
    inputs = [node for node in graph.nodes if node.op == "input"]
    if len(inputs) != 1 or len(graph.shapes[inputs[0].output]) != 3 or inputs[0].output in graph.integers:
        return None
    rows = band_rows(graph, bands)
    return _Rewriting(graph, bands, rows).run() if rows else None


class _Rewriting:
    """rows: value in bands -> rows of a band."""

    def __init__(self, graph: Graph, bands: int, rows: dict[int, int]) -> None:
        self.graph, self.bands, self.rows = graph, bands, rows
        self.nodes: list[Node] = []
        self.shapes = {value: (shape[0], rows[value], *shape[2:]) if value in rows else shape
                       for value, shape in graph.shapes.items()}
        self.next = 1 + max(graph.shapes)
        self.made: dict[tuple[str, int, int], int] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            wanted = self.rows_read(node)
            if wanted is not None and reads_beyond(node):
                value = self.regrouped(node.inputs[0], wanted)
                inputs: tuple[int, ...] = (self.with_halo(node.inputs[0], value, wanted),)
            else:
                inputs = tuple(self.spread(value) if wanted is not None and is_spread(self.graph, node, value)
                               else self.regrouped(value, wanted) for value in node.inputs)
            self.nodes.append(replace(node, inputs=inputs, attributes={**node.attributes,
                                                                       "in_bands": wanted is not None}))
        output = self.regrouped(self.graph.output, None)
        return Graph(tuple(self.nodes), output, self.shapes, self.graph.integers)

    def rows_read(self, node: Node) -> int | None:
        """Rows of a band of each input; None: of the whole picture."""
        return rows_read(node, self.rows[node.output]) if node.output in self.rows else None

    def add(self, op: str, original: int, value: int, shape: tuple[int, ...], **attributes: object) -> int:
        """A node on a value, which has the rows of `original`, once."""
        key = op, original, shape[1]
        if key not in self.made:
            self.made[key], self.next = self.next, self.next + 1
            self.shapes[self.made[key]] = shape
            self.nodes.append(Node(op, (value,), self.made[key], {"bands": self.bands, **attributes}, {}))
        return self.made[key]

    def regrouped(self, value: int, wanted: int | None) -> int:
        """The value in bands of `wanted` rows, or whole."""
        if value not in self.rows or self.rows[value] == wanted:
            return value
        channels, height, width = self.graph.shapes[value]
        into = 1 if wanted is None else self.bands
        return self.add("regroup", value, value, (channels, height if wanted is None else wanted, width), into=into,
                        height=height)

    def spread(self, value: int) -> int:
        """One pixel, which every band of a sample has."""
        whole = self.regrouped(value, None)
        return self.add("spread", value, whole, self.shapes[whole])

    def with_halo(self, original: int, value: int, rows: int) -> int:
        """The value, in bands of so many rows, for all convolutions, or all that pool it, that read it thus."""
        above = below = across = 0
        outside = 0.0
        for node in self.graph.nodes:
            if reads_beyond(node) and node.inputs == (original,) and self.rows_read(node) == rows:
                at = node.attributes
                dilation = at["dilation"][0] if node.op == "conv2d" else 1
                reach = dilation * (at["kernel"][0] - 1) - at["padding"][0] - at["stride"][0] + 1
                above, below = max(above, at["padding"][0]), max(below, reach)
                if node.op == "conv2d":
                    across = max(across, at["padding"][1])
                else:
                    outside = -math.inf
        if above == below == across == 0:
            return value
        return self.add("halo", original, value, self.shapes[value], height=self.graph.shapes[original][1],
                        above=above, below=below, padding=(max(above, below), across), outside=outside)
