"""A sample of blocks of 64 consecutive weights, and the bracket of keys that it gives for a rank.

The method is that of csrc/kernels/topk_threshold/sample.h: one block from each of equal stretches, and a width from the
variance between blocks, which weights of rows of different scale need.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from optprune_fast.ops.topk_threshold.keys import INFINITY_32, INFINITY_64
from optprune_fast.ops.topk_threshold.levels import ALL, DTYPES, INFINITIES, common
from optprune_fast.ops.topk_threshold.numba_tiles import Array

_DENSE = 128  # a bracket of more than one key in so many is worth a look at equal keys


class Sample:
    """Common keys, int64 [B, 64], of weights that are contiguous."""

    def __init__(self, rows: list[Tensor], n: int, wide: bool, drop: bool) -> None:
        from optprune_fast.ops.topk_threshold import numba_pass

        self.n, self.lowest, self.highest = n, -1, (INFINITY_64 if wide else INFINITY_32) + 1
        blocks = _choose(rows, n)
        own = np.empty((len(blocks), 64), np.int64)
        limits = np.array(INFINITIES if drop else ALL)
        numba_pass.gather(blocks, limits, own)
        self.keys = np.empty_like(own)
        for kind in set(blocks[:, 2].tolist()):
            of_kind = blocks[:, 2] == kind
            self.keys[of_kind] = common(torch.from_numpy(own[of_kind]), kind, wide).numpy()
        self.sorted = np.sort(self.keys, axis=None)

    def bracket(self, rank: int) -> tuple[int, int]:
        """(lo, hi), both inside, around the key of a rank."""
        size = self.keys.size
        centre = rank / self.n * size
        likely = self._at(min(size, max(1, round(centre))))
        counts = (self.keys >= likely).sum(1)
        between = max(float(counts.var()), 64 * rank / self.n * (1 - rank / self.n))
        width = 4 * math.sqrt(len(counts) * between) + 4
        hi = self._at(math.ceil(centre - width)) if centre - width >= 1 else self.highest
        lo = self._at(math.ceil(centre + width)) if centre + width < size else self.lowest
        return self.part(rank, lo, hi)

    def part(self, rank: int, lo: int, hi: int) -> tuple[int, int]:
        """[lo, hi], or where many keys in it are equal one side of them or they alone: where the rank is expected."""
        first, last = np.searchsorted(self.sorted, [lo, hi + 1])
        inside = int(last - first)
        if lo == hi or inside * _DENSE <= self.keys.size:
            return lo, hi
        for key in (int(self.sorted[(first + last) // 2]), int(self.sorted[first]), int(self.sorted[last - 1])):
            start, end = np.searchsorted(self.sorted, [key, key + 1])
            if 2 * (end - start) >= inside:
                place = self.keys.size - rank / self.n * self.keys.size
                if place >= end and key < hi:
                    return key + 1, hi
                return (lo, key - 1) if place < start and lo < key else (key, key)
        return lo, hi

    def _at(self, rank: int) -> int:
        return int(self.sorted[-rank])


def _choose(rows: list[Tensor], n: int) -> Array:
    """int64 [B, 3]: address, weights and type of each block."""
    many = max(32, int(2 * n ** (2 / 3)) // 64)
    generator = np.random.Generator(np.random.PCG64(0))
    places = np.minimum(n - 1, ((np.arange(many) + generator.random(many)) * (n / many)).astype(np.int64))
    sizes = np.array([weights.numel() for weights in rows])
    starts = np.cumsum(sizes) - sizes
    tensor = np.searchsorted(starts + sizes, places, side="right")
    first = np.minimum((places - starts[tensor]) // 32 * 32, np.maximum(0, sizes[tensor] - 64))
    address = np.array([weights.data_ptr() for weights in rows])
    width = np.array([weights.element_size() for weights in rows])
    kinds = np.array([DTYPES.index(weights.dtype) for weights in rows])
    return np.stack([address[tensor] + first * width[tensor], np.minimum(64, sizes[tensor]), kinds[tensor]], axis=1)
