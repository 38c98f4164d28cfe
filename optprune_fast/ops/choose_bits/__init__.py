"""choose_bits: a random subset of the set bits, of an exact size. Every exact-cardinality operator is built on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optprune_fast.ops.checks import require
from optprune_fast.ops.words import popcount
from optprune_fast.runtime.dispatch import Operation
from optprune_fast.runtime.errors import message

operation = Operation("choose_bits", __name__, ("cuda", "triton", "native", "numba", "torch"))


def choose_bits(words: Tensor, counts: Tensor, seeds: Tensor, *, backend: str = "auto", check: bool = True) -> Tensor:
    """Keep exactly `counts[p]` of the bits set in row `p`, chosen at random by `seeds[p]`.

    words:    int64 [P, W]
    counts:   int64 [P], at most the bits set in the row
    seeds:    int64 [P], any bit pattern; equal seeds choose equal bits, on every backend and any number of threads
    check:    False takes for granted that the counts are in range: to look at them waits for a GPU
    returns:  int64 [P, W]

    Bit `j` of word `w` gets the key `splitmix64(seed + (64 w + j + 1) · 0x9E3779B97F4A7C15)`, as an unsigned number,
    and the bits with the smallest keys stay (S. Vigna's public-domain mixer; equal keys: lowest position first).
    A key depends on nothing but seed and position, so the choice needs no order of execution.

    Raises `TypeError` for wrong dtypes, `ValueError` for wrong shapes or counts.

    >>> popcount(choose_bits(torch.tensor([[0b1111]]), torch.tensor([2]), torch.tensor([0])))
    tensor([[2]])
    """
    where = "choose_bits"
    seen: dict[str, Any] = {"words": words, "counts": counts, "seeds": seeds}
    if not words.dtype == counts.dtype == seeds.dtype == torch.int64:
        raise TypeError(message(where, "words, counts and seeds must be int64", **seen))
    require(words.dim() == 2 and counts.shape == seeds.shape == words.shape[:1], where,
            "words must be [P, W], counts and seeds [P]", **seen)
    require(words.device == counts.device == seeds.device, where, "words, counts and seeds must be on one device",
            **seen)
    if check:
        available = popcount(words).sum(1)
        require(bool(((counts >= 0) & (counts <= available)).all()), where,
                "counts must lie between 0 and the bits set in the row", counts=counts.tolist()[:8],
                available=available.tolist()[:8])
    out: Tensor = operation(words, counts, seeds, backend=backend)
    return out
