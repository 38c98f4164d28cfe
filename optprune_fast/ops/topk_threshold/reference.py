"""What topk_threshold means: one stable sort. Every implementation must give these very bits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.ops.words import pack


def topk_threshold_reference(tensors: Sequence[Tensor], k: int, pool: int = 0,
                             nan: str = "raise") -> tuple[float, list[Tensor], list[Tensor]]:
    """Sort all weights by magnitude; keep the first `k`, mark the next `pool`. Returns (threshold, words, pool_words).

    float64 holds every value of the smaller dtypes exactly, and a stable sort leaves equals in the order of
    (tensor, position). NaN stands before all others ("keep") or behind them ("drop").
    """
    magnitudes = torch.cat([t.double().abs().flatten() for t in tensors])
    order = magnitudes.nan_to_num(0.0, posinf=math.inf).argsort(descending=True, stable=True)
    unranked = magnitudes.isnan()[order]
    if nan == "raise" and unranked.any():
        raise ValueError("NaN has no rank")
    order = torch.cat([order[unranked == (nan == "keep")], order[unranked != (nan == "keep")]])
    threshold = magnitudes[order[k - 1]].item() if k else math.inf
    return threshold, _words(tensors, order[:k]), _words(tensors, order[k : k + pool])


def _words(tensors: Sequence[Tensor], chosen: Tensor) -> list[Tensor]:
    marks = torch.zeros(sum(t.numel() for t in tensors), dtype=torch.bool)
    marks[chosen] = True
    parts = torch.split(marks, [t.numel() for t in tensors])
    shapes = [t.shape if t.dim() > 1 else (1, t.numel()) for t in tensors]
    return [pack(part.reshape(shape).flatten(1)) for part, shape in zip(parts, shapes, strict=True)]
