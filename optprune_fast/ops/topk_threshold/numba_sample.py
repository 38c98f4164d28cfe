"""A sample of blocks of 64 consecutive weights, and the bracket of keys that it gives for a rank.

The method is that of csrc/kernels/topk_threshold/sample.h: one block from each of equal stretches, and a width from the
variance between blocks, which weights of rows of different scale need.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from torch import Tensor

from optprune_fast.ops.topk_threshold.levels import DTYPES, Array, Ranking

_DENSE = 128  # a bracket of more than one key in so many is worth a look at equal keys


class Bracket(NamedTuple):
    """Keys lo to hi, both inside; share: of all weights that are expected there."""

    lo: int
    hi: int
    share: float


class Sample:
    """Keys, [B, 64], of weights that are contiguous."""

    def __init__(self, rows: list[Tensor], n: int, ranking: Ranking, drop: bool) -> None:
        from optprune_fast.ops.topk_threshold import numba_pass

        self.n, self.lowest, self.highest = n, -1, ranking.infinity + 1
        blocks = _choose(rows, n)
        self.keys = np.empty((len(blocks), 64), ranking.dtype)
        numba_pass.gather(blocks, ranking.levels(0, 0, drop), self.keys)
        if ranking.mixed:
            ranking.make_common(self.keys, blocks[:, 2])
        self.sorted = np.sort(self.keys, axis=None)

    def bracket(self, rank: int) -> Bracket:
        """Around the key of a rank."""
        size = self.keys.size
        centre = rank / self.n * size
        likely = self._at(min(size, max(1, round(centre))))
        counts = (self.keys >= likely).sum(1)
        between = max(float(counts.var()), 64 * rank / self.n * (1 - rank / self.n))
        width = 4 * math.sqrt(len(counts) * between) + 4
        hi = self._at(math.ceil(centre - width)) if centre - width >= 1 else self.highest
        lo = self._at(math.ceil(centre + width)) if centre + width < size else self.lowest
        return self.part(rank, lo, hi)

    def part(self, rank: int, lo: int, hi: int) -> Bracket:
        """[lo, hi], or where many keys in it are equal one side of them or they alone: where the rank is expected."""
        lo, hi = self._part(rank, lo, hi)
        first, last = self._places(lo, hi)
        return Bracket(lo, hi, (last - first) / self.keys.size)

    def _part(self, rank: int, lo: int, hi: int) -> tuple[int, int]:
        first, last = self._places(lo, hi)
        inside = last - first
        if lo == hi or inside * _DENSE <= self.keys.size:
            return lo, hi
        for key in (int(self.sorted[(first + last) // 2]), int(self.sorted[first]), int(self.sorted[last - 1])):
            start, end = self._places(key, key)
            if 2 * (end - start) >= inside:
                place = self.keys.size - rank / self.n * self.keys.size
                if place >= end and key < hi:
                    return key + 1, hi
                return (lo, key - 1) if place < start and lo < key else (key, key)
        return lo, hi

    def _places(self, lo: int, hi: int) -> tuple[int, int]:
        """Where the keys from lo to hi stand among the sorted ones, which bounds of another type would have copied."""
        first, end = np.searchsorted(self.sorted, np.array([lo, hi + 1], self.sorted.dtype))
        return int(first), int(end)

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
