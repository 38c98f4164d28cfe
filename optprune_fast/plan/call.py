"""One operation of the exported graph, as converters see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from optprune_fast.plan.builder import Builder, Outputs
from optprune_fast.plan.exported import CannotCapture


@dataclass
class Call:
    """An ATen operation with its arguments by the names of its schema, defaults filled in."""

    build: Builder
    node: fx.Node

    @cached_property
    def name(self) -> str:
        """`relu` for aten.relu.default and for aten.relu_.default; the full name outside of ATen."""
        schema = getattr(self.node.target, "_schema", None)
        if schema is None:
            return str(self.node.target)
        name: str = schema.name.removeprefix("aten::")
        return name.removesuffix("_") if self.in_place else name

    @cached_property
    def in_place(self) -> bool:
        return bool(getattr(getattr(self.node.target, "_schema", None), "is_mutable", False))

    @cached_property
    def given(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        target: Any = self.node.target
        for position, argument in enumerate(target._schema.arguments):
            if position < len(self.node.args):
                out[argument.name] = self.node.args[position]
            elif argument.name in self.node.kwargs:
                out[argument.name] = self.node.kwargs[argument.name]
            else:
                out[argument.name] = argument.default_value
        return out

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    @property
    def source(self) -> Any:
        """The first argument as the exported graph has it."""
        return next(iter(self.given.values()))

    @property
    def x(self) -> int | None:
        """The first argument, where it has an entry for each sample."""
        return self.build.value(self.source)

    @property
    def rank(self) -> int:
        """Dimensions of the first argument, with the batch."""
        rank: int = self.source.meta["val"].dim()
        return rank

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample of the output."""
        return sample_shape(self.node)

    def dim(self, dim: int, rank: int | None = None) -> int:
        """A dimension without the batch."""
        counted = dim % (self.rank if rank is None else rank)
        if counted == 0:
            raise CannotCapture(f"{self.node.target} works along the batch: samples are mixed")
        return counted - 1

    def dims(self, dims: Any) -> tuple[int, ...]:
        if not dims:
            raise CannotCapture(f"{self.node.target} works on all samples at once: samples are mixed")
        return tuple(sorted(self.dim(dim) for dim in ([dims] if isinstance(dims, int) else dims)))


def sample_shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of one sample of a value, of the first of several.

    Raises `CannotCapture` where the batch is not its only first dimension.
    """
    value = node.meta["val"]
    value = value[0] if isinstance(value, (tuple, list)) else value
    leading = value.shape[0] if value.dim() else None
    rest = tuple(value.shape[1:])
    if not (isinstance(leading, torch.SymInt) and leading.node.expr.is_Symbol) or not all(
            isinstance(size, int) for size in rest):
        raise CannotCapture(f"{node.target} gives a tensor {list(value.shape)} whose first dimension is not the batch: "
                            "samples are mixed")
    return rest


Pair = tuple[int, int]
# None: leave it to torch.
Converter = Callable[[Call], "int | None"]
Splitter = Callable[[Call], "Outputs | None"]


def pair(sizes: int | Sequence[int], one: bool, neutral: int) -> Pair:
    """(vertical, horizontal); of one dimension, what leaves a row as it is and the given number.

    >>> pair([3], False, 1), pair(3, True, 1), pair([2, 3], False, 1)
    ((3, 3), (1, 3), (2, 3))
    """
    listed = [sizes] if isinstance(sizes, int) else list(sizes)
    return (neutral, listed[0]) if one else (listed[0], listed[-1])


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_tensor(value: object) -> bool:
    return isinstance(value, fx.Node) and isinstance(value.meta.get("val"), Tensor)
