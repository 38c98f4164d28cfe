"""A copy of a model that leaves out the weights that others will stand for."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

TYPES: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d)


def replica(model: nn.Module, without: Iterable[Tensor] = ()) -> nn.Module:
    """A deep copy in which the tensors of `without` have no memory: they are on the meta device."""
    memo: dict[int, object] = {}
    for tensor in without:
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(model, memo)


def owners(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """id of a parameter -> the modules that hold it, each once, and its name there."""
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), []).append((module, name))
    return found


def why_not_layers(users: list[tuple[nn.Module, str]]) -> str | None:
    """Why a weight cannot be compressed: something other than plain layers of one kind uses it; or None."""
    for module, name in users:
        if type(module) not in TYPES or name != "weight":
            return f"{type(module).__name__} uses it, and has no compressed form"
    if len({getattr(module, "groups", 1) for module, _ in users}) > 1:
        return "it is tied between convolutions of different groups"
    return None


def places(model: nn.Module, module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """(parent, name) of every place where a module stands."""
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child is module:
                yield parent, name


def put(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """`new` in every place of `old`, with its mode and its hooks; returns the model, which may be `new` itself."""
    new.training = old.training
    for kind in ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
                 "_forward_pre_hooks_with_kwargs"):
        getattr(new, kind).update(getattr(old, kind))
    for parent, name in list(places(model, old)):
        parent._modules[name] = new
        if isinstance(parent, nn.TransformerEncoderLayer):  # its fast path reads the weights by itself
            parent.activation_relu_or_gelu = 0
    return new if model is old else model
