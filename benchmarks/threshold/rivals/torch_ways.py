"""What the ways of torch share: all magnitudes in a row, and bool masks in the shapes of the weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.threshold.task import Case

Prepared = tuple[Callable[[], object], Callable[[], list[Tensor]]]


def no_pool(case: Case) -> str | None:
    return "no pool" if case.pool else None


def magnitudes(tensors: list[Tensor]) -> Tensor:
    return tensors[0].flatten().abs() if len(tensors) == 1 else torch.cat([t.flatten() for t in tensors]).abs()


def by_indices(tensors: list[Tensor], largest: Callable[[Tensor], Tensor]) -> Prepared:
    """Masks that keep the places in `largest(magnitudes)`."""
    sizes, made = [t.numel() for t in tensors], list[Tensor]()

    def run() -> object:
        mask = torch.zeros(sum(sizes), dtype=torch.bool, device=tensors[0].device)
        mask[largest(magnitudes(tensors))] = True
        made[:] = [part.view(t.shape) for part, t in zip(mask.split(sizes), tensors, strict=True)]
        return made

    return run, lambda: list(made)
