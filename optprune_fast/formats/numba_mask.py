"""Masks through the range coder: what has been seen of a weight's column, of its row and just before it is its context.

    context = (level of the column's density so far · 7 + level of the row's) · 4 + the two bits before
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optprune_fast.formats.numba_coder import P_BITS, RATE, SLOWEST, adapt, finish, get, probability, put, start
from optprune_fast.ops.numba_support import called

ROW_LEVELS = 7
NEAR = 4          # contexts by the two bits before
TABLE_BITS = 12   # a density is looked up by its upper bits
COLUMN_SLOWEST, ROW_SLOWEST = 255, 127
PRIOR = 12        # how often the density of the whole mask counts as seen, in every column and row


@called
def encode(words: Any, columns: Any, density: Any, column_level: Any, row_level: Any, p: Any, out: Any) -> Any:
    """uint64 words [O, W] -> how many of `out` (uint32) were filled; -1 if they do not suffice.

    density: of the mask, as P_BITS bits; column_level, row_level: uint8 [2^TABLE_BITS]; p: int64 [contexts], changed
    """
    low, span, at = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF), 0
    seen = np.full(p.size, 2, np.int64)
    column_p = np.full(columns, density, np.int64)
    shift = P_BITS - TABLE_BITS
    for r in range(words.shape[0]):
        if at + columns + 4 > out.size:  # a position takes less than 32 bits
            return -1
        row_p, near = density, 0
        column_rate = RATE[min(r + PRIOR, COLUMN_SLOWEST)]
        for j in range(columns):
            bit = np.int64((words[r, j >> 6] >> np.uint64(j & 63)) & np.uint64(1))
            c = (column_level[column_p[j] >> shift] * ROW_LEVELS + row_level[row_p >> shift]) * NEAR + near
            low, span, at = put(low, span, at, out, bit, probability(p[c]))
            adapt(p, seen, c, bit, SLOWEST)
            target = bit << P_BITS
            column_p[j] += ((target - column_p[j]) * column_rate) >> 16
            row_p += ((target - row_p) * RATE[min(j + PRIOR, ROW_SLOWEST)]) >> 16
            near = ((near << 1) | bit) & (NEAR - 1)
    return finish(low, span, at, out)


@called
def decode(data: Any, columns: Any, density: Any, column_level: Any, row_level: Any, p: Any, words: Any) -> None:
    """uint32 data -> uint64 words [O, W], which are zero before. The rest as for `encode`."""
    code, span, at = start(data), np.uint64(0xFFFFFFFFFFFFFFFF), 2
    seen = np.full(p.size, 2, np.int64)
    column_p = np.full(columns, density, np.int64)
    shift = P_BITS - TABLE_BITS
    for r in range(words.shape[0]):
        row_p, near = density, 0
        column_rate = RATE[min(r + PRIOR, COLUMN_SLOWEST)]
        for j in range(columns):
            c = (column_level[column_p[j] >> shift] * ROW_LEVELS + row_level[row_p >> shift]) * NEAR + near
            bit, code, span, at = get(code, span, at, data, probability(p[c]))
            adapt(p, seen, c, bit, SLOWEST)
            words[r, j >> 6] |= np.uint64(bit) << np.uint64(j & 63)
            target = bit << P_BITS
            column_p[j] += ((target - column_p[j]) * column_rate) >> 16
            row_p += ((target - row_p) * RATE[min(j + PRIOR, ROW_SLOWEST)]) >> 16
            near = ((near << 1) | bit) & (NEAR - 1)
