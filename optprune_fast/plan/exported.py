"""A model as `torch.export` sees it, with the batch as the one size that may vary."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from optprune_fast.plan.model import eval_mode, logits

SAMPLES = 3  # not 1, which torch.export would take for a constant


class CannotCapture(Exception):
    """Why a model cannot become a graph; the general path evaluates it."""


@dataclass(frozen=True)
class Exported:
    """The ATen graph of a model.

    names:     placeholder -> parameter or buffer, under the first of its names
    literals:  placeholder -> tensor that is neither
    inputs:    placeholder -> index or keyword of the argument
    symbols:   the sizes that stand for the batch
    """

    graph: fx.Graph
    names: dict[fx.Node, str]
    literals: dict[fx.Node, Tensor]
    inputs: dict[fx.Node, int | str]
    symbols: frozenset[Any]

    def number(self, value: Any, batch: int) -> Any:
        """The value of a symbolic number for a batch of this size."""
        if not isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return value
        expression = value.node.expr.subs(dict.fromkeys(self.symbols, batch))
        if expression.free_symbols:
            raise CannotCapture("a size depends on the values of the data")
        kind = {torch.SymInt: int, torch.SymFloat: float, torch.SymBool: bool}[type(value)]
        return kind(expression)


def samples(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[int | str, Tensor]:
    """`SAMPLES` samples of each tensor that holds one entry a sample; repeated, and made to differ, if there are fewer.

    The first tensor says how many samples there are.
    """
    named: dict[int | str, Any] = dict(enumerate(args))
    named.update(kwargs.items())
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CannotCapture("the model is called without a tensor")
    first = next(iter(tensors.values()))
    size = first.shape[0] if first.dim() else 0
    if size == 0:
        raise CannotCapture("the model is called without a sample")
    for key, value in tensors.items():
        if not value.dim() or value.shape[0] != size:
            raise CannotCapture(f"argument {key!r} has no entry for each sample")
    repeats = -(-SAMPLES // size)
    return {key: _differing(value.detach().repeat(repeats, *(1 for _ in value.shape[1:]))[:SAMPLES], size)
            for key, value in tensors.items()}


def _differing(value: Tensor, size: int) -> Tensor:
    if size >= SAMPLES or not value.is_floating_point():
        return value
    factors = 1 + 0.25 * (torch.arange(SAMPLES, device=value.device) // size)
    return value * factors.to(value.dtype).reshape(-1, *(1 for _ in value.shape[1:]))


class _Called(nn.Module):
    """The model as a function of its tensors alone, with one tensor as output."""

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any],
                 keys: list[int | str]) -> None:
        super().__init__()
        self.training = False
        self.model, self.args, self.kwargs, self.keys = model, args, dict(kwargs), keys

    def forward(self, *tensors: Tensor) -> Tensor:
        given = dict(zip(self.keys, tensors, strict=True))
        args = (given.get(index, value) for index, value in enumerate(self.args))
        return logits(self.model(*args, **{key: given.get(key, value) for key, value in self.kwargs.items()}))


def export(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any],
           tensors: Mapping[int | str, Tensor]) -> Exported:
    """Export a model in eval mode. Raises `CannotCapture` where `torch.export` gives up."""
    import torch.export  # slow, and needed here only
    from torch.export.graph_signature import InputKind

    keys = list(tensors)
    dynamic = (tuple({0: torch.export.Dim.DYNAMIC} for _ in keys),)
    try:
        with eval_mode(model), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(_Called(model, args, kwargs, keys), tuple(tensors.values()),
                                          dynamic_shapes=dynamic, strict=False)
    except Exception as failure:  # whatever the tracer fails with: not this way
        raise CannotCapture(_why(failure)) from failure
    program.graph.eliminate_dead_code()
    places = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    first = _first_names(model)
    names, literals, inputs = {}, {}, {}
    position = 0
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            node = places.get(spec.arg.name)
            if node is not None:
                inputs[node] = keys[position]
            position += 1
        elif (node := places.get(spec.arg.name)) is not None and spec.target is not None:
            name = first.get(spec.target.removeprefix("model."))
            if name is not None:
                names[node] = name
            else:
                literals[node] = program.constants[spec.target].detach()
    symbols = frozenset(node.meta["val"].shape[0].node.expr for node in inputs
                        if isinstance(node.meta["val"].shape[0], torch.SymInt))
    return Exported(program.graph, names, literals, inputs, symbols)


def _why(failure: Exception) -> str:
    text = str(failure).strip()
    if "Constraints violated" in text:
        return "the model fixes the number of samples: len(x) does, and x.shape[0] does not"
    return f"torch.export gave up: {(text.splitlines() or [type(failure).__name__])[0][:200]}"


def _first_names(model: nn.Module) -> dict[str, str]:
    """Every name of a parameter or buffer -> the first one: tied tensors have several."""
    first: dict[int, str] = {}
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}
