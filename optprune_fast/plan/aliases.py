"""Writes in place, read as operations with a result: allowed where nobody sees the difference.

Tracing already hands the result to whoever reads the tensor itself afterwards; what is left are other names of it.
"""

from __future__ import annotations

from torch import fx

from optprune_fast.plan.exported import CannotCapture

# May return their input itself, although their schema does not say so.
PASSING = {"aten::dropout", "aten::feature_dropout", "aten::alpha_dropout", "aten::contiguous", "aten::to",
           "aten::reshape", "aten::flatten", "aten::type_as"}


class Aliases:
    """Which nodes share memory, as the graph is walked through in order."""

    def __init__(self, graph: fx.Graph) -> None:
        self.position = {node: index for index, node in enumerate(graph.nodes)}
        self.base: dict[fx.Node, fx.Node] = {}

    def visit(self, node: fx.Node) -> None:
        """Note a node. Raises `CannotCapture` for a write that a later node reads through another name."""
        schema = getattr(node.target, "_schema", None)
        source = next((arg for arg in node.args if isinstance(arg, fx.Node)), None)
        if source is None:
            return
        views = schema is None or schema.name in PASSING or any(r.alias_info is not None for r in schema.returns)
        if views:
            self.base[node] = self._base(source)
        if schema is not None and schema.is_mutable:
            self._check_write(node, source)

    def _base(self, node: fx.Node) -> fx.Node:
        return self.base.get(node, node)

    def _check_write(self, node: fx.Node, written: fx.Node) -> None:
        base = self._base(written)
        if base.op == "placeholder":
            raise CannotCapture(f"{node.target} writes into an input, a parameter or a buffer")
        now = self.position[node]
        for other in self.position:
            if other is not node and self._base(other) is base and any(
                    self.position[user] > now for user in other.users):
                raise CannotCapture(f"{node.target} writes into a tensor that is read later by another name")
