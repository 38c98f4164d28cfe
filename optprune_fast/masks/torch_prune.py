"""Masks in the form of `torch.nn.utils.prune`: `<name>_orig` parameters and `<name>_mask` buffers."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import message


def to_torch_prune(model: nn.Module, mask: PackedMasks) -> nn.Module:
    """Prune `model` in place by `torch.nn.utils.prune`; `torch.nn.utils.prune.remove` makes it permanent.

    mask: a single mask of the model's layout. A tied weight is pruned under all its names.
    """
    dense = mask.to_dense()
    for layer in mask.layout:
        for name in (layer.name, *layer.aliases):
            owner, _, parameter = name.rpartition(".")
            torch_prune.custom_from_mask(model.get_submodule(owner), parameter, dense[layer.name][0])
    return model


def from_torch_prune(model: nn.Module) -> PackedMasks:
    """The single mask of a model that `torch.nn.utils.prune` has pruned; names are those before pruning.

    Raises `ValueError` if no parameter is pruned that way.

    >>> model = torch_prune.l1_unstructured(nn.Linear(4, 2), "weight", amount=3)
    >>> from_torch_prune(model).count()
    tensor([5])
    """
    buffers = dict(model.named_buffers(remove_duplicate=False))
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        plain = name.removesuffix("_orig")
        if plain != name and f"{plain}_mask" in buffers:
            names.setdefault(id(parameter), []).append(plain)
    if not names:
        raise ValueError(message("from_torch_prune", "no parameter is pruned by torch.nn.utils.prune",
                                 "its parameters end in _orig, its masks in _mask", model=type(model).__name__))
    shapes = {tied[0]: tuple(buffers[f"{tied[0]}_mask"].shape) for tied in names.values()}
    layout = MaskLayout.from_shapes(shapes, {tied[0]: tuple(sorted(tied[1:])) for tied in names.values()})
    return PackedMasks.from_dense(layout, {name: (buffers[f"{name}_mask"] != 0).unsqueeze(0).to(torch.bool)
                                           for name in shapes})
