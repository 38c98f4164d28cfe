"""Magnitude pruning: the baseline, the core and the pool of every search."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.topk_threshold import topk_threshold
from optprune_fast.runtime.errors import coming, message


@dataclass(frozen=True)
class Selection:
    """What `magnitude` chose.

    mask:       the weights kept, one mask
    threshold:  the smallest magnitude kept; for `scope="layer"` one a layer, {name: float}
    pool:       the weights that follow rank k, one mask
    """

    mask: PackedMasks
    threshold: float | dict[str, float]
    pool: PackedMasks


def magnitude(model: nn.Module, sparsity: float = 0.95, scope: str = "global", pool: float = 0.0, *,
              layout: MaskLayout | None = None) -> Selection:
    """Keep the largest weights by magnitude, exactly `k = n - round(sparsity * n)` of them.

    model:     its weights are read, never changed
    sparsity:  fraction to prune, in [0, 1)
    scope:     "global", one threshold for all layers, or "layer", each layer at this sparsity
    pool:      fraction of all prunable weights to mark as pool: those that follow rank k
    layout:    which weights are prunable; `MaskLayout.of(model)` if not given
    returns:   `Selection(mask, threshold, pool)`

    Equal magnitudes rank by (layer, index), lowest first. Raises `ValueError` for weights that are not finite, a
    sparsity outside [0, 1), or a pool that the pruned weights do not fill.

    >>> model = nn.Linear(4, 1, bias=False)
    >>> with torch.no_grad(): _ = model.weight.copy_(torch.tensor([[0.1, -3.0, 2.0, 0.5]]))
    >>> sel = magnitude(model, sparsity=0.5, pool=0.25)
    >>> sel.mask.indices().tolist(), sel.threshold, sel.pool.indices().tolist()
    ([1, 2], 2.0, [3])
    """
    layout = MaskLayout.of(model) if layout is None else layout
    weights = layout.weights_of(model)
    check_finite(weights)
    if scope not in ("global", "layer"):
        if ":" in scope:
            raise coming(f'magnitude(scope="{scope}")', "N:M scopes come with the fast threshold kernels")
        raise ValueError(message("magnitude", 'scope must be "global" or "layer"', scope=scope))
    if not 0 <= pool <= 1:
        raise ValueError(message("magnitude", "pool must lie in [0, 1]: a fraction of all prunable weights", pool=pool))
    if scope == "global":
        return select(layout, weights, layout.budget(sparsity), round(pool * layout.n))
    return _by_layer(layout, weights, sparsity, pool)


def select(layout: MaskLayout, weights: dict[str, Tensor], budget: int, pool: int) -> Selection:
    """The `budget` largest weights of all layers together, and the `pool` that follow; both are counts."""
    if not 0 <= pool <= layout.n - budget:
        raise ValueError(message("magnitude", f"the pool must fit into the {layout.n - budget} pruned weights",
                                 pool=pool, budget=budget, n=layout.n))
    top = topk_threshold(list(weights.values()), budget, pool)
    none = [torch.zeros_like(words) for words in top.words]
    return Selection(_mask(layout, top.words), top.threshold, _mask(layout, top.pool_words or none))


def check_finite(weights: dict[str, Tensor]) -> None:
    """Raise `ValueError` naming the layer if a weight is NaN or infinite."""
    for name, weight in weights.items():
        if not bool(torch.isfinite(weight).all()):
            raise ValueError(message("weights", "weights must be finite", "a NaN or infinite weight poisons every "
                                     "fitness; mend the model first", layer=name, weight=weight))


def _by_layer(layout: MaskLayout, weights: dict[str, Tensor], sparsity: float, pool: float) -> Selection:
    layout.budget(sparsity)  # the same rule for the sparsity in every scope
    kept, pools, thresholds = [], [], {}
    for layer in layout:
        n = layer.rows * layer.columns
        budget = n - round(sparsity * n)
        top = topk_threshold([weights[layer.name]], budget, min(round(pool * n), n - budget))
        kept.append(top.words[0])
        pools.append(torch.zeros_like(top.words[0]) if top.pool_words is None else top.pool_words[0])
        thresholds[layer.name] = top.threshold
    return Selection(_mask(layout, kept), thresholds, _mask(layout, pools))


def _mask(layout: MaskLayout, words: list[Tensor]) -> PackedMasks:
    return PackedMasks._of(layout, torch.cat([rows.reshape(1, -1) for rows in words], dim=1))

