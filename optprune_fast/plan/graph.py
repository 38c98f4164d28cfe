"""A network as a small typed graph: what a native engine runs, and what says how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Node:
    """One operation. Dimensions in `attributes` count without the batch.

    inputs, output:  value ids
    tensors:         role -> name of a parameter or buffer of the model
    """

    op: str
    inputs: tuple[int, ...]
    output: int
    attributes: dict[str, Any]
    tensors: dict[str, str]


@dataclass(frozen=True)
class Graph:
    """nodes in topological order; shapes: value id -> shape of one sample."""

    nodes: tuple[Node, ...]
    output: int
    shapes: dict[int, tuple[int, ...]]
    integers: frozenset[int] = frozenset()

    def constants(self, state: Mapping[str, Tensor]) -> dict[int, Tensor]:
        """value id -> tensor of each "constant" node, computed from the state."""
        return {node.output: node.attributes["compute"](state) for node in self.nodes if node.op == "constant"}
