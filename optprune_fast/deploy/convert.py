"""opf.convert: a model whose pruned layers hold and multiply their kept weights alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from optprune_fast.deploy.chooser import Choice, check_prefer, choose
from optprune_fast.deploy.conv import SparseConv1d, SparseConv2d
from optprune_fast.deploy.layer import SparseLayer
from optprune_fast.deploy.linear import SparseLinear
from optprune_fast.deploy.replica import owners, put, replica, why_not_layers
from optprune_fast.deploy.report import ATTRIBUTE, Deployment, Row, row_of
from optprune_fast.deploy.weight import SparseWeight
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.words import popcount, unpack
from optprune_fast.runtime.errors import message


def convert(model: nn.Module, mask: PackedMasks, *, prefer: str = "speed") -> nn.Module:
    """A copy of `model` in which each pruned layer holds its kept weights alone, compressed, and multiplies those.

    mask:    one mask of the model's layout (`result.mask`)
    prefer:  "speed": a layer stays dense, with zeros, where that is faster at some batch size; "memory": it is
             compressed wherever that is smaller. `optprune_fast.deploy.explain(net)` says which, and why

    `nn.Linear`, `nn.Conv1d` and `nn.Conv2d` become `SparseLinear`, `SparseConv1d` and `SparseConv2d`; a weight that
    anything else uses stays dense, its pruned weights zero. Tied weights stay tied. The model is not changed, and what
    is not pruned is copied. Pruned means gone: an infinite activation times a pruned weight is nothing, where dense
    torch has NaN.

    Raises `ValueError` for several masks, another layout, or another `prefer`.

    >>> import optprune_fast as opf
    >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    >>> net = opf.convert(model, opf.magnitude(model, sparsity=0.9).mask, prefer="memory")
    >>> type(net[0]).__name__, net(torch.ones(3, 64)).shape
    ('SparseLinear', torch.Size([3, 2]))
    """
    check_prefer("convert", prefer)
    if len(mask) != 1:
        raise ValueError(message("convert", "one mask at a time", "mask[i] is the i-th of several", mask=mask))
    weights = mask.layout.weights_of(model)
    users, parameters = owners(model), dict(model.named_parameters())
    choices = {}
    for layer in mask.layout:
        parameter, kept = parameters[layer.name], int(popcount(mask.layer_words(layer.name)).sum())
        choices[layer.name] = choose(users[id(parameter)][0][0], parameter, kept, prefer,
                                     refusal=why_not_layers(users[id(parameter)]))
    net = replica(model, [parameters[name] for name, choice in choices.items() if choice.format != "dense"])
    copies = dict(net.named_parameters())
    rows = []
    for layer in mask.layout:
        words = mask.layer_words(layer.name)[0].to(weights[layer.name].device)
        choice, parameter = choices[layer.name], copies[layer.name]
        if choice.format == "dense":
            bits = unpack(words, layer.columns)
            with torch.no_grad():
                parameter.masked_fill_(~bits.view(layer.shape), 0.0)
            rows.append(dense_row(layer.name, parameter, int(bits.sum()), choice))
            continue
        dense = weights[layer.name].reshape(layer.rows, layer.columns)
        values = dense[unpack(words, layer.columns)]
        net, row = stand_in(net, layer.name, owners(net)[id(parameter)], layer.shape, words, values, choice)
        rows.append(row)
    setattr(net, ATTRIBUTE, Deployment(prefer, tuple(rows)))
    return net


def stand_in(net: nn.Module, name: str, users: list[tuple[nn.Module, str]], shape: Sequence[int], words: Tensor,
             values: Tensor, choice: Choice) -> tuple[nn.Module, Row]:
    """Sparse layers in the places of the modules that use a weight; (the model, what to report)."""
    first = users[0][0]
    weight = SparseWeight.of(words, values, shape, groups=getattr(first, "groups", 1),
                             coded=choice.format == "bitmask")
    layers = [sparse_layer(module, weight, choice.why) for module, _ in users]
    for (module, _), layer in zip(users, layers, strict=True):
        net = put(net, module, layer)
    return net, row_of(name, layers[0])


def sparse_layer(module: nn.Module, weight: SparseWeight, why: str) -> SparseLayer:
    if isinstance(module, nn.Conv2d):
        return SparseConv2d.of(weight, module, why)
    if isinstance(module, nn.Conv1d):
        return SparseConv1d.of(weight, module, why)
    return SparseLinear(weight, module.bias, why)  # type: ignore[arg-type]


def dense_row(name: str, parameter: Tensor, kept: int, choice: Choice) -> Row:
    density, nbytes = kept / max(1, parameter.numel()), parameter.nbytes
    return Row(name, tuple(parameter.shape), density, "dense", nbytes, nbytes, choice.why)
