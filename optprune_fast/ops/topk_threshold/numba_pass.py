"""The passes of the Numba implementation, over tiles of all tensors in one call.

tiles:   int64 [T, 6], a row each: address of the weights, rows, columns, type, addresses of the words of mask and pool.
         The weights of a tile lie one after another, and so do its words
levels:  int64 [4, 4], a row each type, in its own keys: certain are keys > levels[0], in question those > levels[1];
         keys > levels[2] are NaN that counts as -1; keys > levels[3] are NaN
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
def _key(address, kind, limit):  # type: ignore[no-untyped-def]
    key = key32(address) if kind == 0 else key64(address) if kind == 3 else key16(address)
    return -1 if key > limit else key


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


@compiled
def gather(blocks, limits, keys):  # type: ignore[no-untyped-def]
    """keys[b, i]: the i-th key of a block, in the type's own; a block has 64 weights, or fewer that are repeated.

    blocks: int64 [B, 3], address, weights, type
    """
    for b in prange(len(blocks)):
        address, size, kind = blocks[b, 0], blocks[b, 1], blocks[b, 2]
        width = 4 if kind == 0 else 8 if kind == 3 else 2
        for i in range(64):
            keys[b, i] = _key(address + i % size * width, kind, limits[kind])


@compiled
def collect(tiles, levels, drop, starts, rooms, keys, found):  # type: ignore[no-untyped-def]
    """Count the certain keys, and list those in question.

    keys:   int64: the list of tile t, in its type's own keys, is at starts[t], with room for rooms[t]
    found:  int64 [T, 3]: certain keys, keys in question (those without room, too), keys above infinity
    """
    for t in prange(len(tiles)):
        address, rows, columns, kind = tiles[t, 0], tiles[t, 1], tiles[t, 2], tiles[t, 3]
        width = 4 if kind == 0 else 8 if kind == 3 else 2
        above, start, limit = levels[kind, 0], levels[kind, 1], levels[kind, 2]
        certain, listed, strange = 0, 0, 0
        size = rows * columns
        for first in range(0, size, 64):
            place, count = address + first * width, min(64, size - first)
            larger = _word(place, count, kind, above, limit, drop)
            asked = _word(place, count, kind, start, limit, drop) & ~larger
            strange += _above(place, count, kind, levels[kind, 3]) != _ZERO
            certain += _count(larger)
            while asked:
                if listed < rooms[t]:
                    keys[starts[t] + listed] = _key(place + np.int64(trailing_zeros(asked)) * width, kind, limit)
                listed += 1
                asked &= asked - _ONE
        found[t, 0], found[t, 1], found[t, 2] = certain, listed, strange


@compiled
def write(tiles, levels, drop, takes, into_pool):  # type: ignore[no-untyped-def]
    """The words of the mask: certain keys, and the first takes[t] of those in question. into_pool: those of the pool,
    which are what the mask does not have."""
    for t in prange(len(tiles)):
        address, rows, columns, kind = tiles[t, 0], tiles[t, 1], tiles[t, 2], tiles[t, 3]
        mask, pool = tiles[t, 4], tiles[t, 5]
        width = 4 if kind == 0 else 8 if kind == 3 else 2
        above, start, limit = levels[kind, 0], levels[kind, 1], levels[kind, 2]
        left = takes[t]
        at = 0
        for row in range(rows):
            for column in range(0, columns, 64):
                place, count = address + (row * columns + column) * width, min(64, columns - column)
                word = _word(place, count, kind, above, limit, drop)
                if left > 0:
                    ties = _word(place, count, kind, start, limit, drop) & ~word
                    while ties and left > 0:
                        word |= ties & (~ties + _ONE)
                        ties &= ties - _ONE
                        left -= 1
                if into_pool:
                    store_word(pool + at, word ^ load_word(mask + at))
                else:
                    store_word(mask + at, word)
                at += 8
