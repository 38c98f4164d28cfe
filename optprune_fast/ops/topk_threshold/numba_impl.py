"""topk_threshold in Numba: for each rank one pass over the weights. Every dtype, on the CPU.

As in csrc/kernels/topk_threshold, a sample gives a bracket, the pass writes the words of the keys above it and lists
those inside, and the words are patched from the list. Counts are exact, so that a bracket that misses costs another
pass and no bit.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from optprune_fast.ops import numba_support
from optprune_fast.ops.topk_threshold.keys import INFINITY_32, key32
from optprune_fast.ops.topk_threshold.levels import Array, Ranking
from optprune_fast.ops.topk_threshold.numba_sample import Bracket, Sample
from optprune_fast.ops.topk_threshold.numba_tiles import cut, tile_types
from optprune_fast.ops.words import as_rows

_FEW = 32768  # weights that are all listed
_HINT = 1 << 16  # a 128th of the magnitude, in keys of float32
_HINT_SHARE = 1 / 64  # of the weights for which there is room at first in a list around a hint


def missing() -> str | None:
    return numba_support.missing()


def declines(tensors: list[Tensor], *rest: object) -> str | None:
    on = next((weights.device for weights in tensors if weights.device.type != "cpu"), None)
    return None if on is None else f"takes CPU tensors, not {on.type}"


def run(tensors: list[Tensor], k: int, pool: int, words: list[Tensor], pool_words: list[Tensor] | None,
        hint: float | None, nan: str) -> tuple[float, int]:
    """Fill `words` and `pool_words`; return the threshold, and the first tensor with NaN if that is refused."""
    rows = [as_rows(weights).contiguous() for weights in tensors]
    with numba_support.threads():
        search = _Search(rows, cut(rows, words, pool_words), nan)
        ranks = [k] if pool_words is None else [k, k + pool]
        brackets = search.first_brackets(ranks, hint)
        threshold = search.write(k, brackets[0], into_pool=False)
        if pool_words is not None and search.first_nan < 0:
            search.write(k + pool, brackets[1], into_pool=True)
    return threshold, search.first_nan


class _Search:
    """The ranks of some tensors.

    first_nan: the first tensor that holds NaN, if that is refused, or -1
    """

    def __init__(self, rows: list[Tensor], tiles: tuple[Array, Array], nan: str) -> None:
        self.rows, self.raises, self.drop = rows, nan == "raise", nan == "drop"
        self.tiles, self.tensors = tiles
        self.sizes = self.tiles[:, 1] * self.tiles[:, 2]
        self.n = int(self.sizes.sum())
        self.ranking = Ranking(set(tile_types(rows)))
        self.first_nan = -1
        self.keys, self.places = np.empty(0, self.ranking.dtype), np.empty(0, np.uint16)
        self.starts = np.zeros(len(self.tiles), np.int64)

    def first_brackets(self, ranks: list[int], hint: float | None) -> list[Bracket]:
        """Where the key of each rank is expected. The sample is gone when lists are made, which take its memory."""
        beyond = self.ranking.infinity + 1
        brackets, sample = [], None
        for rank in ranks:
            if rank == 0:
                brackets.append(Bracket(beyond, beyond, 0.0))
            elif self.n <= _FEW:
                brackets.append(Bracket(-1, beyond, 1.0))
            elif rank == ranks[0] and hint and hint < math.inf and not self.ranking.wide:
                lo, hi = max(0, key32(hint) - _HINT), min(INFINITY_32, key32(hint) + _HINT)
                brackets.append(Bracket(self.ranking.from_float32(lo), self.ranking.from_float32(hi), _HINT_SHARE))
            else:
                sample = sample or self._sample()
                brackets.append(sample.bracket(rank))
        return brackets

    def write(self, rank: int, bracket: Bracket, into_pool: bool) -> float:
        """The words of the weights up to a rank; returns the magnitude of the last."""
        from optprune_fast.ops.topk_threshold import numba_pass

        lowest, highest = -1, self.ranking.infinity + 1
        while True:
            larger, inside = self._collect(bracket, into_pool)
            if self.first_nan >= 0:
                return math.nan
            if rank == 0:
                return math.inf
            if rank <= larger:
                lowest = bracket.hi + 1
            elif rank > larger + int(inside.sum()):
                highest = bracket.lo - 1
            elif bracket.lo == bracket.hi:
                key = bracket.lo
                takes = _first_of(inside, rank - larger)
                numba_pass.add_ties(self.tiles, self.ranking.levels(key, key, self.drop), self.drop, into_pool, takes)
                return self.ranking.magnitude(key)
            else:
                return self.ranking.magnitude(self._patch(rank - larger, inside, into_pool))
            bracket = self._sample().part(rank, lowest, highest)

    def _collect(self, bracket: Bracket, into_pool: bool) -> tuple[int, Array]:
        """How many keys are more than hi, and in each tile how many lie in [lo, hi]: a list, unless lo is hi."""
        from optprune_fast.ops.topk_threshold import numba_pass

        found = np.zeros((len(self.tiles), 3), np.int64)
        levels = self.ranking.levels(bracket.lo, bracket.hi, self.drop)
        lists = bracket.lo < bracket.hi
        expected = self.sizes * bracket.share
        rooms = np.minimum(self.sizes, 1.5 * expected + 4 * np.sqrt(expected) + 4).astype(np.int64) * lists
        for _ in range(2):  # again if a list needs more room
            self.starts = np.cumsum(rooms) - rooms
            if len(self.keys) < rooms.sum():
                self.keys, self.places = self.keys[:0], self.places[:0]  # gone before the next are made
                self.keys = np.empty(int(rooms.sum()), self.ranking.dtype)
                self.places = np.empty(int(rooms.sum()), np.uint16)
            if len(self.tiles):
                numba_pass.collect(self.tiles, levels, self.drop, into_pool, self.starts, rooms, self.keys, self.places,
                                   found)
            if not lists or bool((found[:, 1] <= rooms).all()):
                break
            rooms = found[:, 1].copy()
        if self.raises and found[:, 2].any():
            self.first_nan = int(self.tensors[found[:, 2] > 0].min())
        return int(found[:, 0].sum()), found[:, 1]

    def _patch(self, rank: int, inside: Array, into_pool: bool) -> int:
        """Add the listed weights up to a rank among them; returns the key of the last."""
        from optprune_fast.ops.topk_threshold import numba_pass

        keys = np.concatenate([self.keys[start : start + count] for start, count in
                               zip(self.starts.tolist(), inside.tolist(), strict=True)])
        if self.ranking.mixed:
            self.ranking.make_common(keys, np.repeat(self.tiles[:, 3], inside))
        place = len(keys) - rank
        keys.partition(place)
        key = int(keys[place])
        levels = self.ranking.levels(key, key, self.drop)
        found = np.zeros((len(self.tiles), 2), np.int64)
        numba_pass.count(self.tiles, levels, self.starts, inside, self.keys, found)
        takes = _first_of(found[:, 1], rank - int(found[:, 0].sum()))
        numba_pass.patch(self.tiles, levels, into_pool, self.starts, inside, self.keys, self.places, takes)
        return key

    def _sample(self) -> Sample:
        return Sample(self.rows, self.n, self.ranking, self.drop)


def _first_of(counts: Array, many: int) -> Array:
    """How many of the first `many` fall to each, in order."""
    before: Array = np.cumsum(counts) - counts
    taken: Array = np.clip(many - before, 0, counts)
    return taken
