"""torch.sort of the magnitudes, and a mask from the first indices."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.threshold.task import Case

NAME, EXACT = "torch.sort", True


def declines(case: Case) -> str | None:
    return "no pool" if case.pool else None


def prepare(tensors: list[Tensor], k: int, pool: int) -> tuple[Callable[[], object], Callable[[], list[Tensor]]]:
    n = sum(t.numel() for t in tensors)
    made: list[Tensor] = []

    def magnitudes() -> Tensor:
        return tensors[0].flatten().abs() if len(tensors) == 1 else torch.cat([t.flatten() for t in tensors]).abs()

    def run() -> object:
        mask = torch.zeros(n, dtype=torch.bool, device=tensors[0].device)
        mask[magnitudes().sort(descending=True).indices[:k]] = True
        parts = mask.split([t.numel() for t in tensors])
        made[:] = [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]
        return made

    return run, lambda: list(made)
