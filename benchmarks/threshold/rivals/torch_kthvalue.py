"""torch.kthvalue of the magnitudes, then a comparison: it keeps all that equal the threshold."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.threshold.task import Case

NAME, EXACT = "torch.kthvalue", False


def declines(case: Case) -> str | None:
    return "no pool" if case.pool else None


def prepare(tensors: list[Tensor], k: int, pool: int) -> tuple[Callable[[], object], Callable[[], list[Tensor]]]:
    n = sum(t.numel() for t in tensors)
    made: list[Tensor] = []

    def magnitudes() -> Tensor:
        return tensors[0].flatten().abs() if len(tensors) == 1 else torch.cat([t.flatten() for t in tensors]).abs()

    def run() -> object:
        threshold = magnitudes().kthvalue(n - k + 1).values
        made[:] = [t.abs() >= threshold for t in tensors]
        return made

    return run, lambda: list(made)
