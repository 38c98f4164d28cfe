"""How to compute a value that does not depend on the samples: a position, a causal mask, a weight of a weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from optprune_fast.plan.exported import CannotCapture, Exported

Form = Callable[[Tensor, torch.dtype], Tensor]


def float_dtype(state: Mapping[str, Tensor]) -> torch.dtype:
    """The dtype of the floating tensors of a state."""
    return next(tensor.dtype for tensor in state.values() if tensor.is_floating_point())


def raw(value: Tensor, dtype: torch.dtype) -> Tensor:
    """As the model has it, in the float dtype of the state."""
    return value.to(dtype) if value.is_floating_point() else value


def number(value: Tensor, dtype: torch.dtype) -> Tensor:
    """As a floating number."""
    return value.to(dtype)


def additive(value: Tensor, dtype: torch.dtype) -> Tensor:
    """An attention mask (True: look at it) as what is added to the scores; numbers stay."""
    if value.dtype is not torch.bool:
        return value.to(dtype)
    return torch.zeros_like(value, dtype=dtype).masked_fill(~value, float("-inf"))


def is_random(node: fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


class Recipe:
    """Runs the part of the exported graph that a value needs, in its order, on a state.

    first:  take the first entry of the value: it holds the same for each sample
    """

    def __init__(self, exported: Exported, node: fx.Node, *, first: bool = False, form: Form = raw) -> None:
        self.exported, self.node, self.first, self.form = exported, node, first, form
        needed, stack = {node}, [node]
        while stack:
            for source in stack.pop().all_input_nodes:
                # Of a symbolic number only the value counts, not where it came from.
                if source not in needed and not _symbolic(source):
                    needed.add(source)
                    stack.append(source)
        self.order = [n for n in exported.graph.nodes if n in needed]
        self.names = {exported.names[n] for n in self.order if n in exported.names}
        self.uses_batch = any(_symbolic(source) for n in self.order for source in n.all_input_nodes)
        for n in self.order:
            if is_random(n):
                raise CannotCapture(f"{n.target} draws random numbers")

    def __call__(self, state: Mapping[str, Tensor]) -> Tensor:
        """The value, in the float dtype of the state."""
        return self.at(state, 1)

    def at(self, state: Mapping[str, Tensor], batch: int) -> Tensor:
        """The value in a batch of this size."""
        dtype = float_dtype(state)
        values: dict[fx.Node, Any] = {}
        with torch.no_grad():
            for node in self.order:
                if node in self.exported.names:
                    values[node] = state[self.exported.names[node]]
                elif node in self.exported.literals:
                    values[node] = raw(self.exported.literals[node], dtype)
                else:
                    values[node] = run(node, values, self.exported, batch)
            value = self.form(values[self.node], dtype)
        return value[0] if self.first else value


def run(node: fx.Node, values: Mapping[fx.Node, Any], exported: Exported, batch: int) -> Any:
    """One operation of the exported graph on values of its inputs."""
    def value(source: fx.Node) -> Any:
        return exported.number(source.meta["val"], batch) if _symbolic(source) else values[source]

    assert callable(node.target)
    return node.target(*fx.node.map_arg(node.args, value), **fx.node.map_arg(node.kwargs, value))


def _symbolic(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool, int, float))
