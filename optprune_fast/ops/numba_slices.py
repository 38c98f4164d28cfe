"""What the Numba implementations on slices share: one chunk of a weight, and columns listed from words."""

from __future__ import annotations

from typing import Any

import numpy as np

from optprune_fast.ops.numba_support import called, compiled, fma, prange, trailing_zeros
from optprune_fast.ops.slices import SLICE, TILE, Slices, bands, tile_count
from optprune_fast.ops.words import word_count


def listed(slices: Slices, rows: int, columns: int, groups: int) -> tuple[np.ndarray[Any, Any], ...]:
    """values, columns, counts, rows, starts: the planes as arrays, words written out."""
    values, places, counts, order, starts = (t.detach().contiguous().numpy() for t in slices)
    if slices.coded:
        where = np.array(list(bands(rows, groups)), np.int64).reshape(-1, 2)
        counts = np.empty(tile_count(columns) * rows, np.int16)
        words, places = places.view(np.uint64), np.empty(values.size, np.uint8)
        _list(words, where, starts, tile_count(columns), word_count(columns), counts, places)
    return values, places, counts, order, starts


@compiled
def _list(words, where, starts, tiles, per_row, counts, columns):  # type: ignore[no-untyped-def]
    for task in prange(where.shape[0] * tiles):
        band, tile = task // tiles, task % tiles
        first, many = where[band, 0], where[band, 1]
        width = min(4, per_row - 4 * tile)
        at = first * per_row + 4 * tile * many
        own = counts[first * tiles + tile * many : first * tiles + tile * many + many]
        kept = np.empty((many, TILE), np.uint8)
        for r in range(many):
            n = 0
            for w in range(width):
                word = words[at + r * width + w]
                while word:
                    kept[r, n] = 64 * w + trailing_zeros(word)
                    word &= word - np.uint64(1)
                    n += 1
            own[r] = n
        entry = starts[task]
        for slot in range(0, many, SLICE):
            lanes = min(SLICE, many - slot)
            full = own[slot + lanes - 1]
            for k in range(full):
                for i in range(lanes):
                    columns[entry] = kept[slot + i, k]
                    entry += 1
            for i in range(lanes):
                for k in range(full, own[slot + i]):
                    columns[entry] = kept[slot + i, k]
                    entry += 1


@called
def add_chunk(values, columns, entry, counts, rows, x, sums):  # type: ignore[no-untyped-def]
    """sums[row] += the chunk's part; x: [columns of the tile, lanes], sums: [rows of the band, lanes]."""
    lanes = x.shape[1]
    total = np.empty(lanes, np.float32)
    for slot in range(0, counts.size, SLICE):
        side = min(SLICE, counts.size - slot)
        full = counts[slot + side - 1]
        rest = entry + full * side
        for i in range(side):
            total[:] = 0
            for k in range(counts[slot + i]):
                at = entry + k * side + i
                if k >= full:
                    at = rest
                    rest += 1
                weight, column = values[at], columns[at]
                for lane in range(lanes):
                    total[lane] = fma(weight, x[column, lane], total[lane])
            row = rows[slot + i]
            for lane in range(lanes):
                sums[row, lane] += total[lane]
        entry = rest
