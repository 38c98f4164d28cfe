"""A loop that does nothing but read: what NumPy and torch read with is slower than a cache."""

from __future__ import annotations

from typing import Any

import numba


@numba.njit(fastmath=True)
def read(x: Any, times: int) -> Any:
    """The sum of x [n], `times` times over."""
    total = x[0]
    for _ in range(times):
        for value in x:
            total += value
    return total
