"""Differential evolution on latent scores."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.search.latent import LatentStrategy
from optprune_fast.search.problem import Problem


class DifferentialEvolution(LatentStrategy):
    """current-to-best/1/bin: each member moves towards the best and along the difference of two others.

    population:  members
    weight:      of the differences (`F`)
    crossover:   share of the scores that move (`CR`)
    """

    name = "differential_evolution"

    def __init__(self, population: int = 20, weight: float = 0.5, crossover: float = 0.5) -> None:
        self.population, self.weight, self.crossover = population, weight, crossover

    def start(self, problem: Problem) -> None:
        super().start(problem)
        self.members, self.fitness = torch.empty(0), torch.empty(0)

    def propose(self) -> Tensor:
        self.trials = self._trials() if self.generation else self.around_first(self.population)
        return self.trials

    def learn(self, fitness: Tensor) -> None:
        if self.generation == 0:
            self.members, self.fitness = self.trials, fitness
            return
        # An equally good trial replaces its parent: many scores make the same mask, and drift is welcome.
        better = fitness <= self.fitness
        self.members = torch.where(better[:, None], self.trials, self.members)
        self.fitness = torch.where(better, fitness, self.fitness)

    def _trials(self) -> Tensor:
        size, m = self.members.shape
        # Two others: the smallest of random keys among those that are not oneself.
        keys = torch.rand(size, size, generator=self.random).fill_diagonal_(2)
        first, second = keys.argsort(dim=1)[:, :2].unbind(1)
        best = self.members[self.fitness.argmin()]
        moved = self.members + self.weight * (best - self.members + self.members[first] - self.members[second])
        return torch.where(self.uniform(size, m) < self.crossover, moved, self.members)
