"""opf.load: a model with sparse layers, from a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from optprune_fast.deploy.chooser import check_prefer, choose
from optprune_fast.deploy.convert import dense_row, stand_in
from optprune_fast.deploy.replica import owners, replica, why_not_layers
from optprune_fast.deploy.report import ATTRIBUTE, Deployment, Row
from optprune_fast.formats.dense import Dense
from optprune_fast.formats.exponent_code import decoded
from optprune_fast.formats.file import Entry, SparseFile, read
from optprune_fast.formats.two_four import TwoFour
from optprune_fast.runtime.errors import message
from optprune_fast.runtime.files import PathLike
from optprune_fast.runtime.memory import give_back


def load(path: PathLike, model_or_factory: nn.Module | Callable[[], nn.Module], *,
         device: torch.device | str = "cpu", prefer: str = "speed") -> nn.Module:
    """A model with the weights of a file that `export` wrote, its pruned layers sparse. A layer is read at a time, and
    no dense weight is made of a layer that becomes sparse, but for what torch makes of a 2:4 mask on a GPU.

    model_or_factory:  the network: a model (also on the meta device), which is not changed and whose weights are not
                       copied, or a function that makes one; it is called under the meta device and costs no memory
    device:            where the weights go; they lie as its kernels read them
    prefer:            as for `convert`; `optprune_fast.deploy.explain(net)` says what became of each layer

    Raises `FileNotFoundError`; `IntegrityError` for a damaged file; `ValueError` if file and model have other names or
    shapes, or if a buffer that is in no state dict would have to be made up.
    """
    check_prefer("load", prefer)
    with read(path) as file:
        net = _skeleton(model_or_factory)
        _require_names(net, file)
        rows: list[Row] = []
        for name in file.entries:
            net = _take(net, file, name, torch.device(device), prefer, rows)
    for module in net.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and not buffer.is_meta:
                module._buffers[name] = buffer.to(device)
    empty = [name for name, tensor in _tensors(net).items() if tensor.is_meta]
    if empty:
        raise ValueError(message("load", "these buffers are in no state dict, so no file holds them",
                                 "pass a model in which they have their values", buffers=empty))
    setattr(net, ATTRIBUTE, Deployment(prefer, tuple(rows)))
    return net


def _skeleton(model_or_factory: nn.Module | Callable[[], nn.Module]) -> nn.Module:
    """The network, all that a file holds on the meta device."""
    if not isinstance(model_or_factory, nn.Module):
        with torch.device("meta"):
            made = model_or_factory()
        if not isinstance(made, nn.Module):
            raise TypeError(message("load", "the factory must return a model", returned=made))
        return made
    return replica(model_or_factory, _held(model_or_factory).values())


def _held(net: nn.Module) -> dict[str, Tensor]:
    """What a state dict holds, by name, the tensors themselves. It is not asked for: layers that are sparse already
    would make theirs."""
    found = {}
    for prefix, module in net.named_modules(remove_duplicate=False):
        persistent = {n: t for n, t in module._buffers.items() if n not in module._non_persistent_buffers_set}
        found.update({f"{prefix}.{name}".removeprefix("."): tensor
                      for name, tensor in (module._parameters | persistent).items() if tensor is not None})
    return found


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


def _require_names(net: nn.Module, file: SparseFile) -> None:
    wanted = _held(net)
    there = {name: entry for entry in file.entries.values() for name in (entry.name, *entry.aliases)}
    if set(wanted) != set(there):
        raise ValueError(message("load", "the file's weights are not this model's", "pass the exported network",
                                 missing=sorted(set(wanted) - set(there)), unknown=sorted(set(there) - set(wanted)),
                                 file=file.path))
    for name, tensor in wanted.items():
        if tuple(tensor.shape) != there[name].shape:
            raise ValueError(message("load", "a weight of the file has another shape than the model's",
                                     "pass the network that was exported", name=name, model=list(tensor.shape),
                                     file=list(there[name].shape)))


def _take(net: nn.Module, file: SparseFile, name: str, device: torch.device, prefer: str, rows: list[Row]) -> nn.Module:
    entry = file.entries[name]
    if entry.format == Dense.name:
        _give(net, entry, file[name].to_dense().to(device))
        return net
    held_here, by_tensor = _held(net), owners(net)
    tensors = {id(held_here[alias]): held_here[alias] for alias in (name, *entry.aliases)}
    users = [user for number in tensors for user in by_tensor.get(number, [])]
    if not users:
        raise ValueError(message("load", "a sparse weight must be a parameter", name=name))
    like = torch.empty(entry.shape, dtype=entry.dtype, device="meta")
    choice = choose(users[0][0], like, entry.nnz, prefer, device=device, refusal=why_not_layers(users),
                    two_of_four=entry.format == TwoFour.name)
    give_back()  # what the layer before needed on the way
    held = file[name]
    if choice.format == "dense":
        dense = held.to_dense().to(device)
        _give(net, entry, dense)
        rows.append(dense_row(name, dense, entry.nnz, choice))
        return net
    bitmask = held.to_bitmask().to(device)
    del held  # its places of weights are in the words now
    net, row = stand_in(net, name, users, entry.shape, bitmask.words, decoded(bitmask.values), choice)
    rows.append(row)
    return net


def _give(net: nn.Module, entry: Entry, value: Tensor) -> None:
    """Put a tensor in the places of all names of an entry, and in those of tensors that are tied with it."""
    wanted = _held(net)
    replaced = {id(wanted[name]): wanted[name] for name in (entry.name, *entry.aliases)}
    made: Tensor = value
    for old in replaced.values():
        if isinstance(old, nn.Parameter) and not isinstance(made, nn.Parameter):
            made = nn.Parameter(value, requires_grad=old.requires_grad and value.dtype.is_floating_point)
    for module in net.modules():
        held: Any
        for held in (module._parameters, module._buffers):
            held.update({name: made for name, old in held.items() if id(old) in replaced})
