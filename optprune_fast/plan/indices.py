"""Token indices, checked once: a kernel looks its row up without asking whether the table has it.

Indices that are computed by an operation of torch are not known beforehand; torch looks those up, and asks.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from optprune_fast.plan.graph import Graph
from optprune_fast.plan.reference import FORMULAS
from optprune_fast.runtime.errors import message


def check_indices(graph: Graph, state: Mapping[str, Tensor], given: Mapping[int | str, Tensor]) -> None:
    """Raise `ValueError` where an index lies outside of its embedding's table.

    given:  inputs of the model by position or keyword, [B, …] each
    """
    if all(node.op != "embedding" for node in graph.nodes):
        return
    values = {value: x for value, x in graph.constants(state).items() if value in graph.integers}
    batch = len(next(iter(given.values())))
    for node in graph.nodes:
        if node.op == "embedding" and node.inputs[0] in values:
            x, rows = values[node.inputs[0]], len(state[node.tensors["weight"]])
            if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < rows:
                raise ValueError(message("Evaluator", f"indices into {node.tensors['weight']} must lie in [0, {rows})",
                                         smallest=int(x.min()), largest=int(x.max())))
        elif node.op == "input" and node.output in graph.integers:
            values[node.output] = given[node.attributes["index"]]
        elif node.output in graph.integers and node.op in FORMULAS and all(i in values for i in node.inputs):
            inputs = [values[i] if len(values[i].shape) > len(graph.shapes[i])
                      else values[i].expand(batch, *values[i].shape) for i in node.inputs]
            values[node.output] = FORMULAS[node.op](node, inputs, state, (batch, *graph.shapes[node.output]))
