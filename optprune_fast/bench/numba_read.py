"""A loop that does nothing but read: what NumPy and torch read with is slower than a cache."""

from __future__ import annotations

from typing import Any

import numba
import numpy


@numba.njit(fastmath=True)
def read(x: Any, times: int) -> Any:
    """The sum of x [n], `times` times over."""
    total = numpy.float32(0)
    for _ in range(times):
        once = numpy.float32(0)
        for i in range(x.size):  # an iterator would not become vectors
            once += x[i]
        total += once
    return total
