"""Nodes as they are found: values of the exported graph -> values of ours, with the batch taken off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan.exported import SAMPLES, CannotCapture, Exported
from optprune_fast.plan.graph import Node
from optprune_fast.plan.recipe import Form, Recipe, is_random, number, raw
from optprune_fast.plan.torch_call import TorchCall

# Gives the value of one of several outputs.
Outputs = Callable[[int], int]


class Builder:
    """The graph in the making.

    values:   node of the exported graph -> value id; only what has an entry for each sample
    tuples:   the same for operations with several outputs
    layers:   linear layer or convolution -> its place in `nodes`: a batch normalisation may be folded into it
    """

    def __init__(self, exported: Exported, layout: MaskLayout, state: Mapping[str, Tensor]) -> None:
        self.exported, self.state = exported, state
        self.prunable = {name for layer in layout for name in (layer.name, *layer.aliases)}
        self.nodes: list[Node] = []
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.integers: set[int] = set()
        self.values: dict[fx.Node, int] = {}
        self.tuples: dict[fx.Node, Outputs] = {}
        self.layers: dict[fx.Node, int] = {}
        self._constants: dict[tuple[fx.Node, bool, Form], int] = {}

    def emit(self, op: str, inputs: tuple[int, ...], shape: tuple[int, ...], tensors: Mapping[str, str] | None = None,
             /, **attributes: Any) -> int:
        """Add a node; its value id."""
        value = len(self.nodes)
        self.nodes.append(Node(op, inputs, value, attributes, dict(tensors or {})))
        self.shapes[value] = tuple(shape)
        if op in ("reshape", "permute", "slice", "concat") and any(i in self.integers for i in inputs):
            self.integers.add(value)
        return value

    def reshape(self, value: int, shape: tuple[int, ...]) -> int:
        return value if self.shapes[value] == shape else self.emit("reshape", (value,), shape, shape=shape)

    def slice(self, value: int, dim: int, start: int, length: int, step: int = 1) -> int:
        shape = self.shapes[value]
        if (start, length, step) == (0, shape[dim], 1):
            return value
        return self.emit("slice", (value,), (*shape[:dim], length, *shape[dim + 1:]), dim=dim, start=start,
                         length=length, step=step)

    def permute(self, value: int, dims: tuple[int, ...]) -> int:
        if dims == tuple(range(len(dims))):
            return value
        shape = self.shapes[value]
        return self.emit("permute", (value,), tuple(shape[d] for d in dims), dims=dims)

    # ---- tensors that do not depend on the samples

    def parameter(self, node: Any, *, prunable: bool = False) -> str | None:
        """The name of a parameter or buffer; None for anything else. Only layers may have a pruned one."""
        if not isinstance(node, fx.Node) or node not in self.exported.names:
            return None
        name = self.exported.names[node]
        if name in self.prunable and not prunable:
            raise CannotCapture(f"{name} is pruned, and used otherwise than as the weight of a layer")
        return name

    def constant(self, node: fx.Node, form: Form = raw, *, first: bool = False) -> int:
        """The value of what is the same for all samples. first: drop the leading dimension, of size 1 or the batch."""
        key = (node, first, form)
        if key not in self._constants:
            recipe = Recipe(self.exported, node, first=first, form=form)
            pruned = sorted(recipe.names & self.prunable)
            if pruned:
                raise CannotCapture(f"{pruned[0]} is pruned, and used otherwise than as the weight of a layer")
            value = recipe(self.state)
            if recipe.uses_batch:
                self._require_same(recipe, value, node)
            self._constants[key] = self.emit("constant", (), tuple(value.shape), compute=recipe, name=node.name)
            if not value.is_floating_point():
                self.integers.add(self._constants[key])
        return self._constants[key]

    def _require_same(self, recipe: Recipe, value: Tensor, node: fx.Node) -> None:
        whole = Recipe(self.exported, node, form=recipe.form).at(self.state, SAMPLES)
        rows = whole if recipe.first else whole.unsqueeze(0)
        if not all(torch.equal(row, value) for row in rows):
            raise CannotCapture(f"{node.target} depends on the number of samples")

    def operand(self, node: Any, rank: int, form: Form = number) -> int | None:
        """A side of an operation whose result has `rank` dimensions with the batch; None where it does not fit."""
        if not isinstance(node, fx.Node) or not isinstance(node.meta.get("val"), Tensor):
            return None
        shape = node.meta["val"].shape
        if node in self.values or self.is_spread(node):
            return self.value(node) if len(shape) == rank else None
        if len(shape) < rank:
            return self.constant(node, form)
        return self.constant(node, form, first=True) if len(shape) == rank and shape[0] == 1 else None

    def is_spread(self, node: fx.Node) -> bool:
        """Whether a value is the same for each sample and yet has the batch as its first dimension."""
        value = node.meta.get("val")
        return (node not in self.values and isinstance(value, Tensor) and value.dim() > 0
                and isinstance(value.shape[0], torch.SymInt))

    def value(self, node: Any) -> int | None:
        """The value of a tensor that has the batch as its first dimension; None for all else."""
        if not isinstance(node, fx.Node):
            return None
        return self.constant(node, first=True) if self.is_spread(node) else self.values.get(node)

    # ---- whatever has no name here

    def torch_call(self, node: fx.Node, shape: tuple[int, ...], pick: int | None = None) -> int:
        """A "torch" node for an operation, or for one of its outputs."""
        if is_random(node):
            raise CannotCapture(f"{node.target} draws random numbers")
        sources = tuple(n for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor))
        spread = tuple(self.is_spread(n) for n in sources)
        inputs = tuple(self.values[n] if n in self.values else self.constant(n, first=s)
                       for n, s in zip(sources, spread, strict=True))
        batched = tuple(n in self.values for n in sources)
        call = TorchCall(self.exported, node, sources, batched, spread, pick)
        return self.emit("torch", inputs, shape, call=call, name=str(node.target))
