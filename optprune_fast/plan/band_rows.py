"""Which values stay in bands, and how many rows a band of each has.

A row of a value stands for `step` rows of the input, so in a band where one value has h rows, another has
h · step / step'.
Where a picture has few rows left, bands of whole rows fill few lanes, and would for all values before it:

    224 rows in 16 bands, as one whole     steps 1 … 32    32 … 1 rows a band    7 lanes full
    regrouped before the last stride       steps 1 … 16    16 … 1                14 lanes full
                                           step 32              1                 7

So the steps are cut into zones, each with bands of its own, and the last ones may leave bands altogether. All cuts are
tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import torch

from optprune_fast.plan.graph import Graph, Node

POINTWISE = {"activation", "add", "sub", "mul", "scale", "affine"}
# Costs in units of a multiply-add on a register: numbers that move to other lanes one by one, or together; and what a
# convolution costs beside the tenth of its weights that is assumed to be kept.
REGROUPED, GATHERED, BESIDE, KEPT = 16, 2, 2, 10


def band_rows(graph: Graph, bands: int) -> dict[int, int]:
    """Value -> rows of one of its bands, for those that stay in bands; empty where whole pictures cost less."""
    steps = _steps(graph)
    if any(graph.shapes[value][1] == 0 for value in steps):
        return {}
    least, best = _cost(graph, {}), {}
    for zones in _cuts(sorted(set(steps.values()))):
        rows = {value: height for zone in zones for value, height in _rows(graph, steps, zone, bands).items()}
        cost = _cost(graph, rows)
        if cost < least:
            least, best = cost, rows
    return best


def rows_read(node: Node, rows: int) -> int:
    """Rows of an input's band that `rows` rows of a node's are made of."""
    return rows * (node.attributes["stride"][0] if node.op in ("conv2d", "max_pool", "avg_pool") else 1)


def reads_beyond(node: Node) -> bool:
    """Whether rows of an output overlap in what they read, so that a band needs some of its neighbours' rows."""
    return node.op == "conv2d" or (node.op == "max_pool" and not _is_apart(node))


def _steps(graph: Graph) -> dict[int, int]:
    """Value that can be in bands -> rows of the input to a row of it."""
    steps: dict[int, int] = {}
    for node in graph.nodes:
        if node.op == "input":
            steps[node.output] = 1
        found = {steps.get(value) for value in node.inputs if not is_spread(graph, node, value)}
        if len(found) == 1 and None not in found and _keeps_rows(graph, node):
            steps[node.output] = rows_read(node, next(step for step in found if step is not None))
    return steps


def _keeps_rows(graph: Graph, node: Node) -> bool:
    """Whether a row of the output is made of some rows of the inputs, at the same height of the picture."""
    if node.op == "avg_pool":
        return _is_apart(node) and graph.shapes[node.output][1] > 1
    if node.op == "max_pool":  # a convolution would read zeros where pooling reads minus infinity
        return _is_apart(node) or not any(other.op == "conv2d" and other.inputs == node.inputs for other in graph.nodes)
    if node.op == "concat":
        return bool(node.attributes["dim"] % 3 == 0)
    same = all(graph.shapes[value] == graph.shapes[node.output] for value in node.inputs
               if not is_spread(graph, node, value))
    return node.op == "conv2d" or (node.op in POINTWISE and same)


def is_spread(graph: Graph, node: Node, value: int) -> bool:
    """Whether all rows of the output have the same number of a channel from this input: it has one pixel."""
    shape = graph.shapes[value]
    return node.op in POINTWISE and len(shape) == 3 and shape[1:] == (1, 1) != graph.shapes[node.output][1:]


def _is_apart(node: Node) -> bool:
    """Whether pooling reads no row twice, and no padding."""
    at = node.attributes
    return bool(at["kernel"][0] == at["stride"][0] and at["padding"][0] == 0)


def _cuts(steps: Sequence[int]) -> Iterator[list[Sequence[int]]]:
    """The first of the steps, in zones of neighbours."""
    for end in range(1, len(steps) + 1):
        for count in range(end):
            for bars in combinations(range(1, end), count):
                yield [steps[a:b] for a, b in zip((0, *bars), (*bars, end), strict=True)]


def _rows(graph: Graph, steps: dict[int, int], zone: Sequence[int], bands: int) -> dict[int, int]:
    """Value of a zone -> rows of a band; so many that the bands cover what its nodes read, too."""
    whole = math.lcm(*zone)
    own = {value for value, step in steps.items() if step in zone}
    read = {value for node in graph.nodes if node.output in own for value in node.inputs
            if not is_spread(graph, node, value)}
    times = max(-(-graph.shapes[value][1] * steps[value] // (bands * whole)) for value in own | read)
    return {value: times * whole // steps[value] for value in own}


def _cost(graph: Graph, rows: dict[int, int]) -> float:
    """Of a tile, in multiply-adds on registers."""
    cost, moved = 0.0, set()
    for node in graph.nodes:
        height = rows.get(node.output)
        if node.op == "conv2d":
            taps = torch.Size(node.attributes["kernel"]).numel()
            channels = graph.shapes[node.inputs[0]][0] // node.attributes["groups"]
            cost += _registers(graph, node.output, height) * (taps * channels / KEPT + BESIDE)
        for value in node.inputs:
            wanted = None if height is None or is_spread(graph, node, value) else rows_read(node, height)
            if value in rows and rows[value] != wanted and (value, wanted) not in moved:
                moved.add((value, wanted))
                cost += _registers(graph, value, wanted) * (GATHERED if wanted is None else REGROUPED)
    return cost


def _registers(graph: Graph, value: int, rows: int | None) -> int:
    """That hold a band of so many rows, or the whole picture."""
    shape = graph.shapes[value]
    return torch.Size(shape).numel() if rows is None else torch.Size(shape).numel() // shape[1] * rows
