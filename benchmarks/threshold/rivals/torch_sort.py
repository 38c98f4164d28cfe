"""torch.sort of the magnitudes, and a mask from the first indices."""

from __future__ import annotations

from torch import Tensor

from benchmarks.threshold.rivals.torch_ways import Prepared, by_indices, no_pool

NAME, EXACT = "torch.sort", True
declines = no_pool


def prepare(tensors: list[Tensor], k: int, pool: int) -> Prepared:
    return by_indices(tensors, lambda m: m.sort(descending=True).indices[:k])
