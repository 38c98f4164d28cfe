"""Logits times a number: the last linear layer takes it into its weights and bias, as it takes batch normalisation."""

from __future__ import annotations

from dataclasses import replace

from optprune_fast.plan.graph import Graph, Node


def with_logit_scale(graph: Graph, factor: float) -> Graph:
    """The same graph with outputs `factor` times as large."""
    if factor == 1:
        return graph
    *before, last = graph.nodes
    if last.op == "linear" and last.output == graph.output:
        scaled = replace(last, attributes={**last.attributes, "factor": factor * last.attributes.get("factor", 1.0)})
        return replace(graph, nodes=(*before, scaled))
    output = 1 + max(graph.shapes)
    scale = Node("scale", (graph.output,), output, {"factor": factor, "shift": 0.0}, {})
    shapes = {**graph.shapes, output: graph.shapes[graph.output]}
    return Graph((*graph.nodes, scale), output, shapes, graph.integers)
