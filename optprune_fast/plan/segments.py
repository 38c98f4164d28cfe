"""A graph cut into parts: what the native engine runs, and what torch runs between.

    input ─▶ [ conv2d, relu ] ─▶ [ cumsum ] ─▶ [ relu, conv2d, linear ] ─▶ output
               native             torch          native

Parts run in order. A value that a later part reads leaves its part in row-major order, with the batch in front.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan.graph import Graph, Node
from optprune_fast.plan.refusal import CannotLower, is_constant, refusal

LAYERS = {"linear", "conv2d"}
Stage = Literal["shared", "together", "each"]


@dataclass(frozen=True, eq=False)
class Part:
    """Nodes that run in one place, as a graph of their own.

    native:   in the native engine, else in torch
    stage:    "shared", the same for all candidates; "together", reads what is the same for all, and runs for many
              candidates at once; "each", reads what differs
    graph:    its inputs are numbered in the order of `inputs`. Several outputs of a native part are one vector
    inputs:   values of the whole graph that it reads
    outputs:  values of the whole graph that later parts read; of the last part, the whole graph's output
    """

    native: bool
    stage: Stage
    graph: Graph
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def split(graph: Graph, layout: MaskLayout) -> tuple[Part, ...]:
    """The parts of a graph, in the order in which they run.

    Raises `CannotLower` where a weight that is pruned would be torch's, or none is left for the native engine.
    """
    reasons = {node.output: refusal(graph, layout, node) for node in graph.nodes}
    pruned = {layer.name for layer in layout}
    for node in graph.nodes:
        if reasons[node.output] and pruned.intersection(node.tensors.values()):
            raise CannotLower(reasons[node.output])
    native = {node.output for node in graph.nodes if not reasons[node.output] and not _only_moves(graph, node)}
    groups = _groups(graph, native)
    while idle := {node.output for is_native, group in groups if is_native and not any(n.op in LAYERS for n in group)
                   for node in group}:  # not worth the way there and back
        native -= idle
        groups = _groups(graph, native)
    parts = _parts(graph, pruned, groups)
    if parts[-1].stage == "shared":
        raise CannotLower("; ".join(dict.fromkeys(filter(None, reasons.values()))))
    return parts


def _only_moves(graph: Graph, node: Node) -> bool:
    """Whole numbers, which are exact in torch at any size, and views of constants, which have no batch of their own."""
    return node.output in graph.integers or is_constant(graph, node.output)


def _groups(graph: Graph, native: Collection[int]) -> list[tuple[bool, list[Node]]]:
    """Nodes by where they run, each group as large as it can be; the shorter of starting natively and in torch."""
    return min((_alternating(graph, native, first) for first in (True, False)), key=len)


def _alternating(graph: Graph, native: Collection[int], turn: bool) -> list[tuple[bool, list[Node]]]:
    done = {node.output for node in graph.nodes if node.op in ("input", "constant")}
    waiting = [node for node in graph.nodes if node.output not in done]
    groups = []
    while waiting:
        group = []
        for node in waiting:  # in topological order: what becomes ready comes later
            if (node.output in native) == turn and done.issuperset(node.inputs):
                group.append(node)
                done.add(node.output)
        waiting = [node for node in waiting if node.output not in done]
        if group:
            groups.append((turn, group))
        turn = not turn
    return groups


def _parts(graph: Graph, pruned: Collection[str], groups: list[tuple[bool, list[Node]]]) -> tuple[Part, ...]:
    parts: list[Part] = []
    differs: set[int] = set()  # values that are not the same for all candidates
    constants = {node.output: node for node in graph.nodes if node.op == "constant"}
    first = next(node.output for node in graph.nodes if node.op == "input")
    for index, (native, group) in enumerate(groups):
        made = {node.output for node in group}
        read = dict.fromkeys(value for node in group for value in node.inputs if value not in made)
        later = {value for _, others in groups[index + 1:] for node in others for value in node.inputs} | {graph.output}
        outputs = tuple(node.output for node in group if node.output in later)
        inputs = tuple(value for value in read if value not in constants) or (first,)  # one says how many samples
        stage: Stage = "shared"
        if differs.intersection(inputs):
            stage = "each"
        elif native and any(node.tensors.get("weight") in pruned for node in group if node.op in LAYERS):
            stage = "together"
        if stage != "shared":
            differs.update(outputs)
        own = [constants[value] for value in read if value in constants]
        parts.append(Part(native, stage, _own_graph(graph, inputs, [*own, *group], outputs, native), inputs, outputs))
    return tuple(parts)


def _own_graph(graph: Graph, inputs: tuple[int, ...], nodes: list[Node], outputs: tuple[int, ...],
               native: bool) -> Graph:
    given = [Node("input", (), value, {"index": index}, {}) for index, value in enumerate(inputs)]
    shapes = {node.output: graph.shapes[node.output] for node in (*given, *nodes)}
    output = outputs[0]
    joining: list[Node] = []
    if native and len(outputs) > 1:
        free = max(graph.shapes) + 1
        for value in outputs:
            shape = (torch.Size(shapes[value]).numel(),)
            joining.append(Node("reshape", (value,), free + len(joining), {"shape": shape}, {}))
            shapes[joining[-1].output] = shape
        output = free + len(joining)
        joining.append(Node("concat", tuple(node.output for node in joining), output, {"dim": 0}, {}))
        shapes[output] = (sum(torch.Size(shapes[value]).numel() for value in outputs),)
    return Graph((*given, *nodes, *joining), output, shapes, graph.integers & shapes.keys())
