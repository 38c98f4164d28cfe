"""What a sample is, and its random numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, eq=False)  # compared by identity: tensors have no truth
class Sample:
    """Positional arguments of an operation's public function.

    terms: products in the longest sum of the result; 0 where the result is exact
    """

    name: str
    arguments: tuple[Any, ...]
    terms: int = 0


def generator_of(*numbers: int) -> torch.Generator:
    """One stream for each set of sizes, so that a new sample changes no other."""
    seed = functools.reduce(lambda seed, n: (seed * 1_000_003 + n) % 2**62, numbers, 0)
    return torch.Generator().manual_seed(seed)
