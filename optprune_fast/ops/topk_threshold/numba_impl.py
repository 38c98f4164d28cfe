"""topk_threshold in Numba: one pass finds the key of a rank, a second writes the words. Every dtype, on the CPU.

As in csrc/kernels/topk_threshold, a sample gives a bracket, the pass lists the keys inside, and counts are exact, so
that a bracket that misses costs another pass and no bit.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from optprune_fast.ops import numba_support
from optprune_fast.ops.topk_threshold.keys import INFINITY_32, INFINITY_64, key32, magnitude32, magnitude64
from optprune_fast.ops.topk_threshold.levels import ALL, DTYPES, INFINITIES, common, own_at_most
from optprune_fast.ops.topk_threshold.numba_sample import Sample
from optprune_fast.ops.topk_threshold.numba_tiles import Array, cut, tile_types

_FEW = 32768  # weights that are all listed
_ROOM = 32  # a list has room for one in so many; where that is too few, it is made as long as it must be
_HINT = 1 << 16  # a 128th of the magnitude, in keys of float32


def missing() -> str | None:
    return numba_support.missing()


def declines(rows: list[Tensor], *rest: object) -> str | None:
    on = next((weights.device for weights in rows if weights.device.type != "cpu"), None)
    return None if on is None else f"takes CPU tensors, not {on.type}"


def run(rows: list[Tensor], k: int, pool: int, words: list[Tensor], pool_words: list[Tensor] | None,
        hint: float | None, nan: str) -> tuple[float, int]:
    """Fill `words` and `pool_words`; return the threshold, and the first tensor with NaN if that is refused."""
    rows = [weights.contiguous() for weights in rows]
    with numba_support.threads():
        search = _Search(rows, cut(rows, words, pool_words), nan)
        threshold = search.write(k, hint, into_pool=False) if search.first_nan < 0 else math.nan
        if pool_words is not None and search.first_nan < 0:
            search.write(k + pool, None, into_pool=True)
    return threshold, search.first_nan


class _Search:
    """The ranks of some tensors.

    first_nan: the first tensor that holds NaN, if that is refused, or -1
    """

    def __init__(self, rows: list[Tensor], tiles: tuple[Array, Array], nan: str) -> None:
        self.rows, self.nan = rows, nan
        self.tiles, self.tensors = tiles
        self.sizes = self.tiles[:, 1] * self.tiles[:, 2]
        self.n = int(self.sizes.sum())
        self.wide = any(weights.dtype == torch.float64 for weights in rows)
        self.infinity = INFINITY_64 if self.wide else INFINITY_32
        self.sample: Sample | None = None
        self.first_nan = -1
        self.lists: Array = np.empty(0, np.int64)

    def write(self, rank: int, hint: float | None, into_pool: bool) -> float:
        """The words of the weights up to a rank; returns the magnitude of the last."""
        from optprune_fast.ops.topk_threshold import numba_pass

        if rank == 0:
            key, takes = self.infinity + 1, np.zeros(len(self.tiles), np.int64)
            if self.nan == "raise":
                self._collect(key, key + 1, few=True)
        else:
            key, takes = self._find(rank, hint)
        if self.first_nan < 0 and len(self.tiles):
            numba_pass.write(self.tiles, self._levels(key, key), self.nan == "drop", takes, into_pool)
        return math.inf if rank == 0 else magnitude64(key) if self.wide else magnitude32(key)

    def _find(self, rank: int, hint: float | None) -> tuple[int, Array]:
        """The key of a rank, and how many weights that have it each tile keeps."""
        lowest, highest = -1, self.infinity + 1
        lo, hi = self._first(rank, hint)
        while True:
            larger, inside, keys = self._collect(lo, hi)
            if self.first_nan >= 0:
                return 0, inside
            if rank <= larger:
                lowest = hi + 1
            elif rank > larger + int(inside.sum()):
                highest = lo - 1
            elif lo == hi:
                return lo, _first_of(inside, rank - larger)
            else:
                place = len(keys) - (rank - larger)
                key = int(np.partition(keys, place)[place])
                ends = np.cumsum(inside)
                equal = np.concatenate([[0], np.cumsum(keys == key)])
                ties = equal[ends] - equal[ends - inside]
                return key, _first_of(ties, rank - larger - int((keys > key).sum()))
            lo, hi = self._sample().part(rank, lowest, highest)

    def _first(self, rank: int, hint: float | None) -> tuple[int, int]:
        if self.n <= _FEW:
            return -1, self.infinity + 1
        if hint and hint < math.inf and not self.wide:
            return max(0, key32(hint) - _HINT), min(INFINITY_32, key32(hint) + _HINT)
        return self._sample().bracket(rank)

    def _collect(self, lo: int, hi: int, few: bool = False) -> tuple[int, Array, Array]:
        """How many keys are more than hi; in each tile how many lie in [lo, hi]; those, unless lo is hi."""
        from optprune_fast.ops.topk_threshold import numba_pass

        found = np.zeros((len(self.tiles), 3), np.int64)
        levels = self._levels(lo, hi)
        rooms = self.sizes * (lo < hi)
        if self.n > _FEW:
            rooms = np.minimum(rooms, rooms // _ROOM + 64)
        for _ in range(2):
            starts = np.cumsum(rooms) - rooms
            if len(self.lists) < rooms.sum():
                self.lists = np.empty(int(rooms.sum()), np.int64)
            if len(self.tiles):
                numba_pass.collect(self.tiles, levels, self.nan == "drop", starts, rooms, self.lists, found)
            if lo == hi or bool((found[:, 1] <= rooms).all()):
                break
            rooms = found[:, 1].copy()
        if self.nan == "raise" and found[:, 2].any():
            self.first_nan = int(self.tensors[found[:, 2] > 0].min())
        inside = found[:, 1]
        if lo == hi or few:
            return int(found[:, 0].sum()), inside, self.lists[:0]
        total = int(inside.sum())
        offsets = np.repeat(starts - (np.cumsum(inside) - inside), inside)
        own = torch.from_numpy(self.lists[np.arange(total) + offsets])
        keys = np.empty(total, np.int64)
        kinds = np.repeat(self.tiles[:, 3], inside)
        for kind in set(tile_types(self.rows)):
            keys[kinds == kind] = common(own[torch.from_numpy(kinds == kind)], kind, self.wide).numpy()
        return int(found[:, 0].sum()), inside, keys

    def _levels(self, lo: int, hi: int) -> Array:
        kinds = set(tile_types(self.rows))
        levels = np.zeros((len(DTYPES), 4), np.int64)
        for kind in kinds:
            limit = INFINITIES[kind] if self.nan == "drop" else ALL[kind]
            levels[kind] = (own_at_most(kind, hi, self.wide), own_at_most(kind, lo - 1, self.wide), limit,
                            INFINITIES[kind])
        return levels

    def _sample(self) -> Sample:
        if self.sample is None:
            self.sample = Sample(self.rows, self.n, self.wide, self.nan == "drop")
        return self.sample


def _first_of(counts: Array, many: int) -> Array:
    """How many of the first `many` fall to each, in order."""
    before: Array = np.cumsum(counts) - counts
    taken: Array = np.clip(many - before, 0, counts)
    return taken
