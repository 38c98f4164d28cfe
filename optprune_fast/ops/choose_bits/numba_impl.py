"""choose_bits in Numba: keys of the set bits alone, one selection a row, rows side by side."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from optprune_fast.ops import numba_support
from optprune_fast.ops.numba_support import compiled, prange, trailing_zeros

_GOLDEN, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ONE, _27, _30, _31 = np.uint64(1), np.uint64(27), np.uint64(30), np.uint64(31)


def missing() -> str | None:
    return numba_support.missing()


def declines(words: Tensor, counts: Tensor, seeds: Tensor) -> str | None:
    return numba_support.declines_metadata(words, counts, seeds)


def run(words: Tensor, counts: Tensor, seeds: Tensor) -> Tensor:
    out = torch.empty_like(words, memory_format=torch.contiguous_format)
    if out.numel():
        with numba_support.threads():
            _choose_bits(*(numba_support.array(t) for t in (words, counts, seeds, out)))
    return out


@compiled
def _choose_bits(words, counts, seeds, out):  # type: ignore[no-untyped-def]
    """words: [P, W]   counts, seeds: [P]   out: [P, W]; all of them unsigned words"""
    for p in prange(words.shape[0]):
        width = words.shape[1]
        held = 0
        for w in range(width):
            word = words[p, w]
            while word:
                word &= word - _ONE
                held += 1
        count = np.int64(counts[p])
        out[p, :] = 0
        if count:
            keys = np.empty(held, np.uint64)
            places = np.empty(held, np.uint64)
            at = 0
            for w in range(width):
                word = words[p, w]
                while word:
                    place = np.uint64(64 * w) + trailing_zeros(word)
                    word &= word - _ONE
                    z = seeds[p] + (place + _ONE) * _GOLDEN
                    z = (z ^ (z >> _30)) * _FIRST
                    z = (z ^ (z >> _27)) * _SECOND
                    keys[at] = z ^ (z >> _31)
                    places[at] = place
                    at += 1
            # The mixer is one-to-one and its input differs for every place: no two keys of a row are equal.
            rest = keys.copy()
            low, high = 0, held - 1
            while True:  # Hoare's selection; keys are random by nature, so any pivot is a good one
                pivot = rest[(low + high) // 2]
                i, j = low, high
                while i <= j:
                    while rest[i] < pivot:
                        i += 1
                    while rest[j] > pivot:
                        j -= 1
                    if i <= j:
                        rest[i], rest[j] = rest[j], rest[i]
                        i += 1
                        j -= 1
                if count - 1 <= j:
                    high = j
                elif count - 1 >= i:
                    low = i
                else:
                    last = pivot
                    break
            for at in range(held):
                if keys[at] <= last:
                    place = places[at]
                    out[p, np.int64(place >> np.uint64(6))] |= _ONE << (place & np.uint64(63))
