"""Seeded parts of samples: a random subset, and a split that keeps the share of every class."""

from __future__ import annotations

import torch

from optprune_fast.data.dataset import Samples


def limited(samples: Samples, limit: int | None, seed: int) -> Samples:
    """At most `limit` samples, drawn by `seed`; a smaller limit yields the first ones of a larger."""
    inputs, targets = samples
    if limit is None or limit >= len(targets):
        return samples
    chosen = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))[:limit]
    return inputs[chosen], targets[chosen]


def stratified(targets: torch.Tensor, share: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Row numbers of the rest and of a `share` drawn from every class, both ascending.

    >>> rest, drawn = stratified(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 0.25, seed=0)
    >>> len(rest), len(drawn)
    (6, 2)
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    for label in range(int(targets.max()) + 1):
        rows = (targets == label).nonzero()[:, 0]
        order = torch.randperm(len(rows), generator=generator)
        chosen[rows[order[: round(share * len(rows))]]] = True
    return (~chosen).nonzero()[:, 0], chosen.nonzero()[:, 0]
