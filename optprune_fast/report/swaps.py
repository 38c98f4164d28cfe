"""What each kept small weight is worth: the loss without it, by exact moves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.recipe.result import Result

Row = dict[str, Any]
TOP = 20
MOST = 4096  # small weights that are tried; of more, those whose loss by gradients is largest


def paying(result: Result, weights: Tensor, calibration: Evaluator, validation: Evaluator | None) -> list[Row]:
    """The `TOP` kept small weights that gain most, a row each, the largest gain first.

    weights:  float [n], in layout order

    A row: `layer`, `position` in it, `index` among all weights, `value`, `rank` by magnitude (1 is the largest),
    `gain` = loss with the weight exchanged for the largest that was dropped, minus loss of the mask; `gain_alone` = the
    same with the weight dropped and nothing in its place; and `gain_validation`, the first on the validation part, or
    None. All are exact. `exchanged_for` is the index of that largest dropped weight.
    """
    small = (result.mask & ~result.magnitude).flat()[0].nonzero().flatten()
    if not small.numel():
        return []
    small = _shortlist(small, weights, result, calibration)
    sizes = weights.abs()
    dropped = (result.magnitude & ~result.mask).flat()[0].nonzero().flatten()
    partner = dropped[sizes[dropped].argmax()]
    exchanges = torch.stack([small, partner.expand_as(small)], dim=1)
    loss = calibration(result.mask)
    gain = calibration.moves(result.mask, exchanges, keep_budget=True) - loss
    top = gain.argsort(descending=True, stable=True)[:TOP]
    alone = calibration.moves(result.mask, small[top].unsqueeze(1)) - loss
    held = None if validation is None else (validation.moves(result.mask, exchanges[top], keep_budget=True)
                                            - validation(result.mask))
    rank = torch.empty_like(sizes, dtype=torch.int64)
    rank[sizes.argsort(descending=True, stable=True)] = torch.arange(1, len(sizes) + 1)
    rows = []
    for place, number in enumerate(top.tolist()):
        index = int(small[number])
        layer, position = where(result.layout, index)
        rows.append({"layer": layer, "position": position, "index": index, "value": float(weights[index]),
                     "rank": int(rank[index]), "gain": float(gain[number]), "gain_alone": float(alone[place]),
                     "gain_validation": None if held is None else float(held[place]), "exchanged_for": int(partner)})
    return rows


def where(layout: MaskLayout, index: int) -> tuple[str, list[int]]:
    """(layer, position in its tensor) of a flat index.

    >>> where(MaskLayout.from_shapes({"a": (2, 3), "b": (4,)}), 5), where(MaskLayout.from_shapes({"a": (2, 3)}), 0)
    (('a', [1, 2]), ('a', [0, 0]))
    """
    layer = next(layer for layer in layout if layer.weights.start <= index < layer.weights.stop)
    rest, position = index - layer.weights.start, list[int]()
    for size in reversed(layer.shape):
        rest, place = divmod(rest, size)
        position.insert(0, place)
    return layer.name, position


def _shortlist(small: Tensor, weights: Tensor, result: Result, calibration: Evaluator) -> Tensor:
    """At most `MOST` of the small weights: by the predicted loss of dropping each, where there are gradients."""
    if len(small) <= MOST:
        return small
    worth = weights[small].abs()
    if calibration.objective.whole is None:
        found = calibration.gradients(result.mask)
        slope, square = (torch.cat([found[layer.name][i].flatten().cpu() for layer in result.layout])[small]
                         for i in (0, 1))
        worth = 0.5 * square * weights[small] ** 2 - slope * weights[small]
    return small[worth.topk(MOST).indices.sort().values]
