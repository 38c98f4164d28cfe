"""topk_threshold in plain torch: any device, exact.

Magnitudes are compared as integers: with the sign bit cleared, the bits of a float are a whole number that grows with
its magnitude. Comparing floats would be wrong where the processor flushes denormals to zero.

The key of a rank is found 16 bits at a time from histograms (a radix select). `torch.kthvalue` takes twice as long for
one rank of ten million weights on the CPU, runs in a single block on CUDA, and is refused there under
`torch.use_deterministic_algorithms`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from optprune_fast.ops.topk_threshold.keys import (
    INFINITY_32,
    INFINITY_64,
    keys32,
    keys64,
    magnitude32,
    magnitude64,
    ranked,
)
from optprune_fast.ops.words import as_rows, pack

_DIGIT_BITS = 16
_DIGIT = (1 << _DIGIT_BITS) - 1
_CHUNK = 1 << 22  # weights packed at a time: packing takes some 20 bytes for each


def missing() -> str | None:
    return None


def declines(*arguments: object) -> str | None:
    return None


def run(tensors: list[Tensor], k: int, pool: int, words: list[Tensor], pool_words: list[Tensor] | None,
        hint: float | None, nan: str) -> tuple[float, int]:
    """Fill `words` and `pool_words`; return the threshold, and the first tensor with NaN if that is refused.

    The hint is of no use here: each round halves the bits of a key, wherever the threshold lies.
    """
    rows = [as_rows(weights) for weights in tensors]
    wide = any(r.dtype == torch.float64 for r in rows)
    infinity = INFINITY_64 if wide else INFINITY_32
    parts = [(keys64(r) if wide else keys32(r)).flatten() for r in rows]
    if nan == "raise":
        found_nan = torch.stack([(part > infinity).any() for part in parts]).tolist()
        if True in found_nan:
            return math.nan, found_nan.index(True)
    # A key more than it is, since digits are of numbers that are not negative.
    keys = ranked(torch.cat(parts), infinity, nan == "drop").add_(1)
    ranks = [rank for rank in (k, k + pool) if rank > 0]
    found = dict(zip(ranks, _select(keys, ranks, 48 if wide else 16) if ranks else [], strict=True))
    kept = _top(keys, *found[k]) if k else torch.zeros_like(keys, dtype=torch.bool)
    _write(kept, rows, words)
    if pool_words is not None:
        # Ranks are a total order, so the top k + pool contain the top k and nothing moves.
        _write(_top(keys, *found[k + pool]) & ~kept, rows, pool_words)
    if not k:
        return math.inf, -1
    key = found[k][0] - 1
    return magnitude64(key) if wide else magnitude32(key), -1


def _select(keys: Tensor, ranks: list[int], shift: int) -> list[tuple[int, int]]:
    """For each rank (1 is the largest) the key that stands there, and its own rank among the keys equal to it.

    Only the bits below `shift + 16` are read; those above are the same in all keys.
    """
    digits = (keys >> shift) & _DIGIT
    at_least = digits.bincount(minlength=_DIGIT + 1).flip(0).cumsum(0)  # [i]: keys whose digit is _DIGIT - i or more
    found = []
    for rank in ranks:
        place = int(torch.searchsorted(at_least, rank))
        digit, rest = _DIGIT - place, rank - (int(at_least[place - 1]) if place else 0)
        if shift:
            [(low, rest)] = _select(keys[digits == digit], [rest], shift - _DIGIT_BITS)
            digit = digit << shift | low
        found.append((digit, rest))
    return found


def _top(keys: Tensor, key: int, ties: int) -> Tensor:
    """Mark the keys above `key` and the first `ties` of those equal to it."""
    kept = keys > key
    kept[(keys == key).nonzero()[:ties, 0]] = True
    return kept


def _write(marks: Tensor, rows: list[Tensor], words: list[Tensor]) -> None:
    for part, r, out in zip(torch.split(marks, [r.numel() for r in rows]), rows, words, strict=True):
        dense, step = part.view(r.shape), max(1, _CHUNK // max(1, r.shape[1]))
        for first in range(0, r.shape[0], step):
            out[first : first + step] = pack(dense[first : first + step])
