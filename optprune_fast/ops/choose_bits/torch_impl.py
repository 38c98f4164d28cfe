"""choose_bits in plain torch: any device."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.ops.words import WORD_BITS, pack, unpack

# The constants of splitmix64 as signed bit patterns: int64 products wrap, which is what the mixer wants.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
_SIGN = -(1 << 63)


def missing() -> str | None:
    return None


def declines(words: Tensor, counts: Tensor, seeds: Tensor) -> str | None:
    return None


def run(words: Tensor, counts: Tensor, seeds: Tensor) -> Tensor:
    columns = words.shape[1] * WORD_BITS
    positions = torch.arange(1, columns + 1, device=words.device) * _GOLDEN
    rank = torch.arange(columns, device=words.device)
    out = torch.empty_like(words)
    for p in range(words.shape[0]):  # a row at a time: keys take 64 bytes for each word
        keys = _mix(seeds[p] + positions) ^ _SIGN  # flipping the sign orders int64 as unsigned numbers
        held = unpack(words[p], columns)
        order = torch.argsort(keys, stable=True)
        order = order[held[order]]
        chosen = torch.zeros_like(held)
        chosen[order[rank[: order.numel()] < counts[p]]] = True
        out[p] = pack(chosen)
    return out


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _FIRST
    z = (z ^ _shift(z, 27)) * _SECOND
    return z ^ _shift(z, 31)


def _shift(z: Tensor, by: int) -> Tensor:
    """Logical right shift: an arithmetic one would drag the sign in."""
    return (z >> by) & ((1 << (64 - by)) - 1)
