"""What choose_bits means, one bit at a time in plain Python. Every implementation must give these very bits."""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN, _ALL = 0x9E3779B97F4A7C15, (1 << 64) - 1


def key(seed: int, position: int) -> int:
    """splitmix64 of the stream `seed` at `position`."""
    z = (seed + (position + 1) * _GOLDEN) & _ALL
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _ALL
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _ALL
    return z ^ (z >> 31)


def choose_bits_reference(words: Tensor, counts: Tensor, seeds: Tensor) -> Tensor:
    """Sort the positions set in each row by key and keep the first `counts[p]`."""
    out = torch.zeros_like(words)
    for p, row in enumerate(words.tolist()):
        seed = int(seeds[p])
        held = [64 * w + j for w, word in enumerate(row) for j in range(64) if (word >> j) & 1]
        for position in sorted(held, key=lambda at: (key(seed, at), at))[: int(counts[p])]:
            bit = 1 << (position % 64)
            out[p, position // 64] |= bit - (1 << 64) if bit >> 63 else bit
    return out
