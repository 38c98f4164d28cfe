"""How few bytes a pruned weight can take: what entropy coders are measured by.

    H(mask) + kept · (H(exponent) + 1 + mantissa bits)

The mask counts as if its bits were drawn independently with the layer's density, exponents as if drawn from their own
histogram, signs and mantissas as noise. A coder that sees more structure can go below.
"""

from __future__ import annotations

import math

import torch

from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import patterns
from optprune_fast.formats.exponent_code import FIELDS, decoded


def bound_bytes(bitmask: Bitmask) -> float:
    """The bound for one weight, in bytes.

    >>> weight = torch.ones(8, 8)
    >>> bound_bytes(Bitmask.of(weight, torch.full((8, 1), 0b1111)))  # 64 bits for the mask, 24 for each of 32 values
    104.0
    """
    e, m = FIELDS[bitmask.dtype]
    values = decoded(bitmask.values)
    exponents = (patterns(values) >> m & (1 << e) - 1).int()
    counts = torch.bincount(exponents, minlength=1 << e).tolist()
    bits = entropy([bitmask.nnz, bitmask.numel - bitmask.nnz]) + entropy(counts) + bitmask.nnz * (1 + m)
    return bits / 8


def entropy(counts: list[int]) -> float:
    """Bits that a sequence with these counts of symbols takes at least.

    >>> entropy([2, 2]), entropy([4])
    (4.0, 0.0)
    """
    total = sum(counts)
    return sum(n * math.log2(total / n) for n in counts if n)
