"""opf.convert: a model whose pruned layers hold and multiply their kept weights alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from optprune_fast.deploy import gpu, two_four
from optprune_fast.deploy.chooser import Choice, check_prefer, choose
from optprune_fast.deploy.conv import SparseConv1d, SparseConv2d
from optprune_fast.deploy.layer import SparseLayer
from optprune_fast.deploy.linear import SparseLinear
from optprune_fast.deploy.replica import owners, put, replica, why_not_layers
from optprune_fast.deploy.report import ATTRIBUTE, Deployment, Row, row_of
from optprune_fast.deploy.weight import SparseWeight
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import row_offsets
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.words import popcount, unpack
from optprune_fast.runtime.errors import message


def convert(model: nn.Module, mask: PackedMasks, *, prefer: str = "speed") -> nn.Module:
    """A copy of `model` in which each pruned layer holds its kept weights alone, compressed, and multiplies those.

    mask:    one mask of the model's layout (`result.mask`)
    prefer:  "speed": a layer stays dense, with zeros, where that is faster at some batch size, by what was measured on
             CPUs; on a GPU, where nothing was, it is compressed where that is half of the bytes or less. "memory": it
             is compressed wherever that is smaller. `optprune_fast.deploy.explain(net)` says which, and why

    `nn.Linear`, `nn.Conv1d` and `nn.Conv2d` become `SparseLinear`, `SparseConv1d` and `SparseConv2d`; a weight that
    anything else uses stays dense, its pruned weights zero. Tied weights stay tied. The model is not changed, and what
    is not pruned is copied. On a CPU pruned means gone: an infinite activation times a pruned weight is nothing, where
    dense torch has NaN. `.to("cuda")` and back change how the kept weights lie, not what they are; a model that is on a
    GPU gets torch's semi-structured weights where those are smallest (2:4, 16 bits), and these stay there.

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
        parameter, words = parameters[layer.name], mask.layer_words(layer.name)[0]
        choices[layer.name] = choose(users[id(parameter)][0][0], parameter, int(popcount(words).sum()), prefer,
                                     refusal=why_not_layers(users[id(parameter)]),
                                     two_of_four=gpu.serves(parameter.device) and two_four.fits(words, layer.columns))
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
    modules, layers = [module for module, _ in users], []
    if choice.format == "two_four":
        dense = Bitmask(tuple(shape), words, values, row_offsets(words)).to_dense()
        layers += two_four.layers(modules, dense)
        row = Row(name, tuple(shape), values.numel() / dense.numel(), choice.format, two_four.nbytes(dense),
                  dense.nbytes, choice.why)
    else:
        weight = SparseWeight.of(words, values, shape, groups=getattr(modules[0], "groups", 1),
                                 coded=choice.format == "bitmask")
        layers += [sparse_layer(module, weight, choice.why) for module in modules]
        row = row_of(name, weight, choice.why)
    for module, layer in zip(modules, layers, strict=True):
        net = put(net, module, layer)
    return net, row


def sparse_layer(module: nn.Module, weight: SparseWeight, why: str) -> SparseLayer:
    if isinstance(module, nn.Conv2d):
        return SparseConv2d.of(weight, module, why)
    if isinstance(module, nn.Conv1d):
        return SparseConv1d.of(weight, module, why)
    return SparseLinear(weight, module.bias, why)  # type: ignore[arg-type]


def dense_row(name: str, parameter: Tensor, kept: int, choice: Choice) -> Row:
    density, nbytes = kept / max(1, parameter.numel()), parameter.nbytes
    return Row(name, tuple(parameter.shape), density, "dense", nbytes, nbytes, choice.why)
