"""Which nodes have no native step, and why."""

from __future__ import annotations

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan.graph import Graph, Node
from optprune_fast.plan.rules import RULES

VIEWS = {"reshape", "permute", "slice"}


class CannotLower(Exception):
    """Why the native engine does not run a graph."""


def refusal(graph: Graph, layout: MaskLayout, node: Node) -> str:
    """Why a node has no native step, or "" where it has one."""
    if node.op not in RULES:
        return f"{node.attributes.get('name', node.op)} has no native step"
    if node.op == "matmul" and any(is_constant(graph, value) for value in node.inputs):
        return "a product with a constant matrix has no native step"
    if node.op == "embedding":
        name = node.tensors["weight"]
        if any(name == layer.name for layer in layout):
            return f"an embedding whose weight is pruned ({name}) has no native step"
        if _is_computed(graph, node.inputs[0]):  # a kernel looks rows up without asking whether the table has them
            return f"an embedding whose indices are computed ({name}) has no native step"
    return ""


def is_constant(graph: Graph, value: int) -> bool:
    """Whether a value is a constant, or a view of one, and comes without the batch."""
    node = _producer(graph, value)
    return node.op == "constant" or (node.op in VIEWS and is_constant(graph, node.inputs[0]))


def _is_computed(graph: Graph, value: int) -> bool:
    node = _producer(graph, value)
    return node.op == "torch" or any(_is_computed(graph, source) for source in node.inputs)


def _producer(graph: Graph, value: int) -> Node:
    return next(node for node in graph.nodes if node.output == value)
