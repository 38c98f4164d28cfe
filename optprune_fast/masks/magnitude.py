"""Magnitude pruning: the baseline, the core and the pool of every search."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optprune_fast.masks.budgets import SCHEMES, layer_counts, share_out
from optprune_fast.masks.layout import MaskLayout, check_finite
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.masks.pattern import keep_pattern, parse_pattern
from optprune_fast.ops.topk_threshold import topk_threshold
from optprune_fast.ops.words import pack
from optprune_fast.runtime.errors import message

SCOPES = (*SCHEMES, "layer")
SPARSITY = 0.95  # unless said, or said by the scope


@dataclass(frozen=True)
class Selection:
    """What `magnitude` chose.

    mask:       the weights kept, one mask
    threshold:  the smallest magnitude kept; for any scope but "global" one a layer, {name: float}
    pool:       the weights that follow rank k, one mask
    """

    mask: PackedMasks
    threshold: float | dict[str, float]
    pool: PackedMasks


def magnitude(model: nn.Module, sparsity: float | None = None, scope: str = "global", pool: float = 0.0, *,
              layout: MaskLayout | None = None) -> Selection:
    """Keep the largest weights by magnitude, exactly `k = n - round(sparsity * n)` of them.

    model:     its weights are read, never changed
    sparsity:  fraction to prune, in [0, 1); 0.95 if not given
    scope:     "global", one threshold for all layers; or the largest weights of each layer, as many as `layer_budgets`
               gives it by "uniform", "erk" or "lamp"; or "layer", each layer at this sparsity, each rounded by itself;
               or "N:M", such as "2:4": the N largest of every M neighbours in a row. That is a sparsity of 1 - N/M, and
               another one is refused. What is left at the end of a row, r weights, keeps ⌈N · r / M⌉
    pool:      fraction of all prunable weights to mark as pool: those that follow rank k; under "N:M" the largest of
               all that are pruned
    layout:    which weights are prunable; `MaskLayout.of(model)` if not given
    returns:   `Selection(mask, threshold, pool)`

    Equal magnitudes rank by (layer, index), lowest first. Raises `ValueError` for weights that are not finite, a
    sparsity outside [0, 1) or other than that of the scope, or a pool that the pruned weights do not fill.

    >>> model = nn.Linear(4, 1, bias=False)
    >>> with torch.no_grad(): _ = model.weight.copy_(torch.tensor([[0.1, -3.0, 2.0, 0.5]]))
    >>> sel = magnitude(model, sparsity=0.5, pool=0.25)
    >>> sel.mask.indices().tolist(), sel.threshold, sel.pool.indices().tolist()
    ([1, 2], 2.0, [3])
    """
    layout = MaskLayout.of(model) if layout is None else layout
    weights = layout.weights_of(model)
    check_finite(weights)
    if scope not in SCOPES and ":" not in scope:
        raise ValueError(message("magnitude", f"scope must be one of {', '.join(SCOPES)}, or N:M, such as 2:4",
                                 scope=scope))
    if not 0 <= pool <= 1:
        raise ValueError(message("magnitude", "pool must lie in [0, 1]: a fraction of all prunable weights", pool=pool))
    if ":" in scope:
        return _by_pattern(layout, weights, scope, sparsity, round(pool * layout.n))
    sparsity = SPARSITY if sparsity is None else sparsity
    budget, size = layout.budget(sparsity), round(pool * layout.n)
    if scope == "global":
        return select(layout, weights, budget, size)
    sizes = [layer.rows * layer.columns for layer in layout]
    if scope == "layer":
        kept = [n - round(sparsity * n) for n in sizes]
        return _by_layer(layout, weights, kept, [min(round(pool * n), n - k) for n, k in zip(sizes, kept, strict=True)])
    _check_pool(layout, budget, size)
    kept = layer_counts(layout, weights, budget, scope)
    rest = [n - k for n, k in zip(sizes, kept, strict=True)]
    return _by_layer(layout, weights, kept, share_out(size, sizes, [0] * len(rest), rest))


def select(layout: MaskLayout, weights: dict[str, Tensor], budget: int, pool: int) -> Selection:
    """The `budget` largest weights of all layers together, and the `pool` that follow; both are counts."""
    _check_pool(layout, budget, pool)
    top = topk_threshold(list(weights.values()), budget, pool)
    none = [torch.zeros_like(words) for words in top.words]
    return Selection(_mask(layout, top.words), top.threshold, _mask(layout, top.pool_words or none))


def _check_pool(layout: MaskLayout, budget: int, pool: int) -> None:
    if not 0 <= pool <= layout.n - budget:
        raise ValueError(message("magnitude", f"the pool must fit into the {layout.n - budget} pruned weights",
                                 pool=pool, budget=budget, n=layout.n))


def _by_layer(layout: MaskLayout, weights: dict[str, Tensor], kept: list[int], pool: list[int]) -> Selection:
    """The `kept[i]` largest weights of each layer, and the `pool[i]` that follow."""
    words, pools, thresholds = [], [], {}
    for layer, budget, size in zip(layout, kept, pool, strict=True):
        top = topk_threshold([weights[layer.name]], budget, size)
        words.append(top.words[0])
        pools.append(torch.zeros_like(top.words[0]) if top.pool_words is None else top.pool_words[0])
        thresholds[layer.name] = top.threshold
    return Selection(_mask(layout, words), thresholds, _mask(layout, pools))


def _by_pattern(layout: MaskLayout, weights: dict[str, Tensor], scope: str, sparsity: float | None,
                pool: int) -> Selection:
    """The N largest of every M neighbours, and the `pool` largest of what that prunes."""
    kept, group = parse_pattern(scope)
    if sparsity is not None and not math.isclose(sparsity, 1 - kept / group, abs_tol=1e-9):
        raise ValueError(message("magnitude", f"scope {scope} prunes {1 - kept / group:g} of the weights, and sparsity "
                                 "says something else", "leave sparsity= out", sparsity=sparsity, scope=scope))
    marks = [keep_pattern(weight, kept, group) for weight in weights.values()]
    _check_pool(layout, sum(int(mark.sum()) for mark in marks), pool)
    rows = [weight.detach().reshape(mark.shape) for weight, mark in zip(weights.values(), marks, strict=True)]
    thresholds = {layer.name: min(row[mark].abs().tolist(), default=math.inf)
                  for layer, row, mark in zip(layout, rows, marks, strict=True)}
    # A weight that is kept has no place in the pool: as NaN it ranks last.
    rest = [row.masked_fill(mark, math.nan) for row, mark in zip(rows, marks, strict=True)] if pool else rows
    follow = topk_threshold(rest, pool, nan="drop")
    return Selection(_mask(layout, [pack(mark) for mark in marks]), thresholds, _mask(layout, follow.words))


def _mask(layout: MaskLayout, words: list[Tensor]) -> PackedMasks:
    return PackedMasks._of(layout, torch.cat([rows.reshape(1, -1) for rows in words], dim=1))
