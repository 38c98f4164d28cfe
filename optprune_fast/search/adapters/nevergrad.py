"""Any optimizer of Nevergrad, by its name in Nevergrad's registry."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from optprune_fast.search.adapters.library import LibraryStrategy


class Nevergrad(LibraryStrategy):
    """Candidates are asked for one by one, and evaluated together.

    Nevergrad itself is MIT, and pip installs directsearch with it, which is GPL-3.0: it is no extra of this package.

    optimizer:   a name of `nevergrad.optimizers.registry`
    population:  candidates of a generation
    spread:      of the first mutations, in standard deviations of `|w|`
    """

    name = "nevergrad"
    install = "nevergrad"

    def __init__(self, optimizer: str = "TwoPointsDE", population: int = 30, spread: float = 0.3) -> None:
        self.kind, self.population, self.spread = optimizer, population, spread

    def begin(self, first: Tensor) -> None:
        nevergrad = self.module("nevergrad")
        scores = nevergrad.p.Array(init=first.numpy()).set_mutation(sigma=self.spread)
        # Left to itself it draws a seed from the global generator at its first use.
        scores.random_state.seed(self.problem.seed & 0xFFFFFFFF)
        self.optimizer = nevergrad.optimizers.registry[self.kind](scores, num_workers=self.population)

    def suggest(self) -> Tensor:
        self.candidates = [self.optimizer.ask() for _ in range(self.population)]
        return torch.from_numpy(np.stack([candidate.value for candidate in self.candidates]))

    def report(self, fitness: Tensor) -> None:
        for candidate, value in zip(self.candidates, fitness.tolist(), strict=True):
            self.optimizer.tell(candidate, value)
