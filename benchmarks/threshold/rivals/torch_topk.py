"""torch.topk of the magnitudes, and a mask from the indices."""

from __future__ import annotations

from torch import Tensor

from benchmarks.threshold.rivals.torch_ways import Prepared, by_indices, no_pool

NAME, EXACT = "torch.topk", True
declines = no_pool


def prepare(tensors: list[Tensor], k: int, pool: int) -> Prepared:
    return by_indices(tensors, lambda m: m.topk(k, sorted=False).indices)
