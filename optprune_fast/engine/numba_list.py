"""The kept weights of each row under one mask, in Numba; rows that nobody reads are left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from optprune_fast.engine.numba_program import (
    CONSUMER_COUNT,
    CONSUMERS,
    FIRST_WORD,
    KEPT,
    LIVE,
    OFFSETS,
    ROWS,
    START,
    USED,
    WEIGHT,
    WIDTH,
)
from optprune_fast.engine.numba_vectors import LANES
from optprune_fast.ops.numba_support import called, trailing_zeros

ALL, NONE, BIT = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0), np.uint64(1)


@called
def any_bit(bits: Any, first: Any, end: Any) -> Any:
    while first < end:
        place = first % 64
        left = min(end - first, 64 - place)
        ones = ALL if left == 64 else (BIT << np.uint64(left)) - BIT
        if (bits[first // 64] >> np.uint64(place)) & ones:
            return True
        first += left
    return False


@called
def is_read(program: Any, layer: Any, row: Any, used: Any) -> Any:
    for c in range(layer[CONSUMER_COUNT]):
        at = layer[CONSUMERS] + 2 * c
        reader, columns = program.layers[program.consumers[at]], program.consumers[at + 1]
        if any_bit(used[reader[USED]:], row * columns, (row + 1) * columns):
            return True
    return layer[CONSUMER_COUNT] == 0


@called
def find_live(program: Any, words: Any, lists: Any) -> Any:
    """Consumers stand after their producers, so one pass from the last layer to the first settles which rows live."""
    for i in range(len(program.layers) - 1, -1, -1):
        layer = program.layers[i]
        W = (layer[WIDTH] + 63) // 64
        used, live = lists.used[layer[USED]:layer[USED] + W], lists.live[layer[LIVE]:]
        used[:] = ALL if layer[FIRST_WORD] < 0 else NONE
        count = 0
        for r in range(layer[ROWS]):
            if not is_read(program, layer, r, lists.used):
                continue
            live[count] = r
            count += 1
            if layer[FIRST_WORD] >= 0:
                first = layer[FIRST_WORD] + r * W
                for w in range(W):
                    used[w] |= words[first + w]
        lists.counts[i] = count


@called
def list_layer(program: Any, i: Any, words: Any, lists: Any) -> Any:
    layer = program.layers[i]
    columns = layer[WIDTH]
    W = (columns + 63) // 64
    start, live = lists.start[layer[START]:], lists.live[layer[LIVE]:]
    place, offset = program.offsets[layer[OFFSETS]:], program.constants[layer[WEIGHT]:]
    next_, at = layer[KEPT], 0
    for r in range(layer[ROWS]):
        start[r] = next_
        if at == lists.counts[i] or live[at] != r:
            continue
        at += 1
        weight = offset[r * columns:(r + 1) * columns]
        for w in range(W):
            left = columns - 64 * w
            word = ALL if left >= 64 else (BIT << np.uint64(left)) - BIT
            if layer[FIRST_WORD] >= 0:
                word = words[layer[FIRST_WORD] + r * W + w]
            while word:
                c = 64 * w + np.int64(trailing_zeros(word))
                lists.offsets[next_] = place[c] * LANES
                lists.weights[next_] = weight[c]
                next_ += 1
                word &= word - BIT
    start[layer[ROWS]] = next_


@called
def list_rows(program: Any, words: Any, lists: Any) -> Any:
    """Fill a thread's lists for the mask `words`."""
    find_live(program, words, lists)
    for i in range(len(program.layers)):
        list_layer(program, i, words, lists)
