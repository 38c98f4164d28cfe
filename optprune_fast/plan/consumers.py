"""Who reads the rows of a layer: a row that no kept weight reads need not be computed."""

from __future__ import annotations

from collections.abc import Mapping

from optprune_fast.plan.graph import Graph, Node

SAME_UNITS = {"activation", "add", "sub", "mul", "scale", "affine"}
KEEPS_CHANNELS = {"max_pool", "avg_pool", "halo", "regroup", "spread"}


Layers = Mapping[int, tuple[int, int]]


def readers(graph: Graph, node: Node, layers: Layers) -> tuple[tuple[int, int], ...]:
    """((layer, its columns per row of `node`), …) if all that reads the output of `node` are layers; else ().

    layers:  output of a linear or conv2d node -> (index of its layer, taps of its kernel)
    """
    axis = 0 if node.op == "conv2d" else len(graph.shapes[node.output]) - 1
    found: list[tuple[int, int]] = []
    if not _follow(graph, node.output, axis, 1, layers, found):
        return ()
    return tuple(sorted(set(found)))


def _follow(graph: Graph, value: int, axis: int, factor: int, layers: Layers, found: list[tuple[int, int]]) -> bool:
    """Follow units along `axis`, each `factor` entries wide; False where somebody else reads them."""
    users = [node for node in graph.nodes if value in node.inputs]
    if value == graph.output or not users:
        return False
    shape = graph.shapes[value]
    for node in users:
        out = graph.shapes[node.output]
        if node.op == "linear" and axis == len(shape) - 1:
            found.append((layers[node.output][0], factor))
        elif node.op == "conv2d" and axis == 0 and factor == 1 and node.attributes["groups"] == 1:
            found.append(layers[node.output])
        elif (node.op in SAME_UNITS and out == shape) or (node.op in KEEPS_CHANNELS and axis == 0):
            if not _follow(graph, node.output, axis, factor, layers, found):
                return False
        elif node.op == "mean" and axis == 0 and 0 not in node.attributes["dims"]:
            if not _follow(graph, node.output, 0, factor, layers, found):
                return False
        elif node.op == "reshape" and axis == 0 and (out[:1] == shape[:1] or len(out) == 1):
            wider = factor if out[:1] == shape[:1] else factor * (out[0] // shape[0])
            if not _follow(graph, node.output, 0, wider, layers, found):
                return False
        else:
            return False
    return True
