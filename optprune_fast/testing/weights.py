"""Weights that are hard to rank: equal ones, ordered ones, rows of different scale, the ends of the range."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def normal(n: int, seed: int = 0) -> Tensor:
    """float32 [n], the same at every call."""
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def scaled_by_row(n: int) -> Tensor:
    """Rows of very different scale: few blocks of a sample look like the whole."""
    rows = normal(n // 256 + 1, 1).mul(2).exp().repeat_interleave(256)[:n]
    return normal(n) * rows


MADE: dict[str, Callable[[int], Tensor]] = {
    "normal": normal,
    "scaled by row": scaled_by_row,
    "constant": lambda n: torch.full((n,), 0.25),
    "two values": lambda n: torch.where(normal(n) > 0, 0.5, -0.75),
    "eight values": lambda n: (normal(n) * 2).round().clamp(-4, 4) / 4,
    "one outlier": lambda n: torch.full((n,), 1e-3).index_fill(0, torch.tensor([n - 1]), 1000.0),
    "sorted": lambda n: normal(n).abs().sort().values,
    "sorted down": lambda n: normal(n).abs().sort(descending=True).values,
    "denormal": lambda n: normal(n) * 1e-40,
    "half pruned": lambda n: normal(n) * (normal(n, 1) > 0),
    "pruned in one half": lambda n: normal(n) * (torch.arange(n) < n // 2),
    "signed zeros": lambda n: torch.where(normal(n) > 0, 0.0, -0.0),
    "infinite": lambda n: torch.where(normal(n) > 0.5, math.inf, normal(n)),
}


def ranks(n: int, kept: int) -> list[tuple[int, int]]:
    """(k, pool): ordinary ones, at the ends, and around the number of weights that are not zero.

    >>> ranks(100, 50)[:4]
    [(10, 0), (10, 10), (50, 17), (1, 99)]
    """
    some = [(n // 10, 0), (n // 10, n // 10), (n // 2, 17), (1, n - 1), (n - 1, 1), (0, n // 3), (n, 0)]
    return [(k, pool) for k, pool in [*some, (kept, 0), (kept, 50), (kept + 5, 0), (kept - 5, 10)]
            if min(k, pool) >= 0 and k + pool <= n]
