"""Masks by how many weights each layer keeps: in a layer, the largest."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.masks.budgets import layer_counts
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.words import pack


def layer_ranks(layout: MaskLayout, weights: dict[str, Tensor], *, core: PackedMasks | None = None,
                within: PackedMasks | None = None) -> Tensor:
    """int64 [n]: the rank of each weight in its layer, 0 for the first to be kept, in layout order.

    core:    weights that rank before all others, one mask; none if not given
    within:  weights that rank next, one mask; all if not given. What is in neither ranks behind them

    Among each, the larger ranks first, and equal magnitudes by position.

    >>> layer_ranks(MaskLayout.from_shapes({"w": (1, 4)}), {"w": torch.tensor([[1.0, -3.0, 0.0, 2.0]])})
    tensor([2, 0, 3, 1])
    """
    core_flags, within_flags = (None if masks is None else masks.to_dense() for masks in (core, within))
    ranks = []
    for layer in layout:
        order = weights[layer.name].detach().double().abs().flatten().argsort(descending=True, stable=True)
        for flags in (within_flags, core_flags):  # stable sorts: the last decides first
            if flags is not None:
                order = order[flags[layer.name].flatten()[order].byte().argsort(descending=True, stable=True)]
        ranks.append(torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device)))
    return torch.cat(ranks)


def ranked_masks(layout: MaskLayout, ranks: Tensor, counts: Tensor) -> PackedMasks:
    """The masks that keep the first `counts[p, l]` weights of layer `l`.

    ranks:    int64 [n], as `layer_ranks` gives them
    counts:   int64 [P, layers]
    returns:  `PackedMasks` of P masks

    >>> layout = MaskLayout.from_shapes({"w": (1, 4)})
    >>> ranks = layer_ranks(layout, {"w": torch.tensor([[1.0, -3.0, 0.0, 2.0]])})
    >>> [mask.indices().tolist() for mask in ranked_masks(layout, ranks, torch.tensor([[1], [3]]))]
    [[1], [0, 1, 3]]
    """
    blocks = [pack(ranks[layer.weights].view(1, layer.rows, layer.columns) < counts[:, i].view(-1, 1, 1)).flatten(1)
              for i, layer in enumerate(layout)]
    return PackedMasks(layout, torch.cat(blocks, dim=1))


def start_mask(layout: MaskLayout, weights: dict[str, Tensor], budget: int, core: PackedMasks, scheme: str, *,
               within: PackedMasks | None = None) -> PackedMasks:
    """The one mask of `budget` weights that a scheme of `layer_budgets` gives where `core` is kept.

    weights:  {name: weight}
    core:     weights that are kept, one mask
    within:   the others are chosen out of these, one mask; all if not given

    Each layer keeps its part of the core and then its largest weights. Raises `ValueError` for an unknown scheme, or a
    budget that core and `within` do not allow.

    >>> layout = MaskLayout.from_shapes({"w": (1, 4)})
    >>> core = PackedMasks.from_indices(layout, torch.tensor([2]))
    >>> start_mask(layout, {"w": torch.tensor([[1.0, -3.0, 0.0, 2.0]])}, 2, core, "erk").indices()
    tensor([1, 2])
    """
    counts = layer_counts(layout, weights, budget, scheme, core=core, within=within)
    ranks = layer_ranks(layout, weights, core=core, within=within)
    return ranked_masks(layout, ranks, torch.tensor([counts], device=ranks.device))
