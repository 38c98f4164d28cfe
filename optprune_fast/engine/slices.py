"""Calls of a kernel that end soon enough: Ctrl-C waits until a call returns."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor

from optprune_fast.runtime.threads import thread_count

SECONDS = 1.0
FEWEST = 4  # candidates a thread: with fewer, threads would wait for the last one


class Slices:
    """Hands a population to a kernel in slices that take about a second each.

    Candidates are independent, so the results are those of one call. How many make a slice is known from the slice
    before, whoever called; the first ever is the smallest.
    """

    def __init__(self) -> None:
        self._cost = math.inf  # seconds of one candidate on one sample

    def sums(self, kernel: Callable[[Tensor], Tensor], words: Tensor, samples: int) -> Tensor:
        """float64 [P]: what the kernel gives for some candidates at a time, int64 [p, W] -> [p]."""
        total = torch.zeros(len(words), dtype=torch.float64)
        start = 0
        while start < len(words):
            left = len(words) - start
            most = max(FEWEST * thread_count(), int(SECONDS / (self._cost * samples)))
            size = -(-left // -(-left // most))  # slices of like size
            began = perf_counter()
            total[start:start + size] = kernel(words[start:start + size])
            self._cost = max(perf_counter() - began, 1e-9) / (size * samples)
            start += size
        return total
