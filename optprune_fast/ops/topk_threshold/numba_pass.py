"""The passes of the Numba implementation, over tiles of all tensors in one call.

tiles:   int64 [T, 6], a row each: address of the weights, rows, columns, type, addresses of the words of mask and pool.
         The weights of a tile lie one after another, and so do its words
levels:  int64 [4, 4], a row each type, in its own keys: certain are keys > levels[0], in question those > levels[1];
         keys > levels[2] are NaN that counts as -1; keys > levels[3] are NaN
lists:   of tile t from starts[t] on: the keys in question, in its type's own, and where in the tile they stand
pool:    the words of the pool are written, which has what the mask does not have, and not those of the mask
"""

from __future__ import annotations

import numpy as np

from optprune_fast.ops.numba_support import called, compiled, prange, trailing_zeros
from optprune_fast.ops.topk_threshold.numba_words import (
    above16,
    above32,
    above64,
    key16,
    key32,
    key64,
    load_word,
    store_word,
)

_ONE, _ZERO = np.uint64(1), np.uint64(0)


@called
def _key(address, kind, limit, infinity):  # type: ignore[no-untyped-def]
    """-1 above `limit`; every other NaN is the key above infinity."""
    key = key32(address) if kind == 0 else key64(address) if kind == 3 else key16(address)
    return -1 if key > limit else min(key, infinity + 1)


@called
def _above(address, count, kind, level):  # type: ignore[no-untyped-def]
    """Which of the next `count` keys, 64 at most, are more than `level`; every NaN is a key above infinity."""
    if count == 64:
        if kind == 0:
            return above32(address, level)
        return above64(address, level) if kind == 3 else above16(address, level)
    width = 4 if kind == 0 else 8 if kind == 3 else 2
    word = _ZERO
    for i in range(count):
        key = key32(address + i * width) if kind == 0 else key64(address + i * width) if kind == 3 else key16(
            address + i * width)
        word |= np.uint64(key > level) << np.uint64(i)
    return word


@called
def _word(address, count, kind, level, limit, drop):  # type: ignore[no-untyped-def]
    """The same, but if `drop` keys > `limit` count as -1."""
    word = _above(address, count, kind, level)
    if drop:
        strange = _above(address, count, kind, limit)
        word = word | strange if level < -1 else word & ~strange
    return word


@called
def _count(word):  # type: ignore[no-untyped-def]
    word -= (word >> _ONE) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@called
def _put(tile, at, word, pool):  # type: ignore[no-untyped-def]
    """Write word `at` of a tile."""
    mask = tile[4] + 8 * at
    if pool:
        store_word(tile[5] + 8 * at, word & ~load_word(mask))
    else:
        store_word(mask, word)


@called
def _add(tile, place, pool):  # type: ignore[no-untyped-def]
    """Set the bit of a weight."""
    row, column = place // tile[2], place % tile[2]
    at = 8 * (row * ((tile[2] + 63) // 64) + column // 64)
    bit = _ONE << np.uint64(column % 64)
    if pool:
        store_word(tile[5] + at, load_word(tile[5] + at) | (bit & ~load_word(tile[4] + at)))
    else:
        store_word(tile[4] + at, load_word(tile[4] + at) | bit)


@compiled
def gather(blocks, levels, keys):  # type: ignore[no-untyped-def]
    """keys[b, i]: the i-th key of a block, in the type's own; a block has 64 weights, or fewer that are repeated.

    blocks: int64 [B, 3], address, weights, type
    """
    for b in prange(len(blocks)):
        address, size, kind = blocks[b, 0], blocks[b, 1], blocks[b, 2]
        width = 4 if kind == 0 else 8 if kind == 3 else 2
        for i in range(64):
            keys[b, i] = _key(address + i % size * width, kind, levels[kind, 2], levels[kind, 3])


@compiled
def collect(tiles, levels, drop, pool, starts, rooms, keys, places, found):  # type: ignore[no-untyped-def]
    """Write the words of the certain keys, count them, and list those in question, as many as there is room for.

    found:  int64 [T, 3]: certain keys, keys in question (those without room, too), keys above infinity
    """
    for t in prange(len(tiles)):
        tile, room = tiles[t], rooms[t]
        address, rows, columns, kind = tile[0], tile[1], tile[2], tile[3]
        width = 4 if kind == 0 else 8 if kind == 3 else 2
        above, start, limit, infinity = levels[kind, 0], levels[kind, 1], levels[kind, 2], levels[kind, 3]
        certain, listed, strange, at = 0, 0, 0, 0
        for row in range(rows):
            for column in range(0, columns, 64):
                first, count = row * columns + column, min(64, columns - column)
                place = address + first * width
                larger = _word(place, count, kind, above, limit, drop)
                asked = _word(place, count, kind, start, limit, drop) & ~larger
                strange += _above(place, count, kind, infinity) != _ZERO
                certain += _count(larger)
                _put(tile, at, larger, pool)
                at += 1
                if listed >= room:
                    listed += _count(asked)
                    continue
                while asked:
                    if listed < room:
                        bit = np.int64(trailing_zeros(asked))
                        keys[starts[t] + listed] = _key(place + bit * width, kind, limit, infinity)
                        places[starts[t] + listed] = first + bit
                    listed += 1
                    asked &= asked - _ONE
        found[t, 0], found[t, 1], found[t, 2] = certain, listed, strange


@compiled
def count(tiles, levels, starts, listed, keys, found):  # type: ignore[no-untyped-def]
    """found: int64 [T, 2]: listed keys that are certain now, and those in question."""
    for t in prange(len(tiles)):
        above, start = levels[tiles[t, 3], 0], levels[tiles[t, 3], 1]
        certain, asked = 0, 0
        for i in range(starts[t], starts[t] + listed[t]):
            certain += keys[i] > above
            asked += (keys[i] > start) & (keys[i] <= above)
        found[t, 0], found[t, 1] = certain, asked


@compiled
def patch(tiles, levels, pool, starts, listed, keys, places, takes):  # type: ignore[no-untyped-def]
    """Add the listed keys that are certain now, and of each tile the first takes[t] of those in question."""
    for t in prange(len(tiles)):
        above, start = levels[tiles[t, 3], 0], levels[tiles[t, 3], 1]
        left = takes[t]
        for i in range(starts[t], starts[t] + listed[t]):
            tied = (left > 0) & (keys[i] > start) & (keys[i] <= above)
            left -= tied
            if tied | (keys[i] > above):
                _add(tiles[t], np.int64(places[i]), pool)


@compiled
def add_ties(tiles, levels, drop, pool, takes):  # type: ignore[no-untyped-def]
    """The same where nothing is listed: a tile that takes none is not read."""
    for t in prange(len(tiles)):
        tile, left, at = tiles[t], takes[t], 0
        address, rows, columns, kind = tile[0], tile[1], tile[2], tile[3]
        width = 4 if kind == 0 else 8 if kind == 3 else 2
        above, start, limit = levels[kind, 0], levels[kind, 1], levels[kind, 2]
        for row in range(rows):
            for column in range(0, columns, 64):
                if left == 0:
                    break
                place, many = address + (row * columns + column) * width, min(64, columns - column)
                word = _word(place, many, kind, above, limit, drop)
                ties = _word(place, many, kind, start, limit, drop) & ~word
                if _count(ties) <= left:
                    left -= _count(ties)
                    word |= ties
                else:
                    while left > 0:
                        word |= ties & (~ties + _ONE)
                        ties &= ties - _ONE
                        left -= 1
                _put(tile, at, word, pool)
                at += 1
