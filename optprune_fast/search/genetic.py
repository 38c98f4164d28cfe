"""A genetic algorithm on packed masks, seeded from magnitude, exact in budget."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.masks.operators import candidate_seeds, crossover, mutate
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.search.problem import Problem
from optprune_fast.search.strategy import Strategy


class Genetic(Strategy):
    """Tournament selection, crossover of what the parents share, mutation by swaps, the best survive.

    population: masks that survive a generation;   children: new masks of a generation
    tournament: how many are drawn to find one parent
    """

    name = "genetic"

    def __init__(self, population: int = 32, children: int = 64, tournament: int = 3) -> None:
        self.population, self.children, self.tournament = population, children, tournament

    def start(self, problem: Problem) -> None:
        self.problem = problem
        self.generation = 0
        self.random = torch.Generator().manual_seed(problem.seed)
        self.survivors: PackedMasks | None = None
        self.fitness = torch.empty(0)

    def ask(self) -> PackedMasks | None:
        if self.problem.fixed:
            return self.problem.start if self.generation == 0 else None
        self.asked = self._first() if self.survivors is None else self._next(self.survivors)
        return self.asked

    def tell(self, fitness: Tensor) -> None:
        if self.problem.fixed:
            self.generation += 1
            return
        masks, fitness = self.asked, fitness.cpu()
        if self.survivors is not None:
            masks, fitness = PackedMasks.cat([self.survivors, masks]), torch.cat([self.fitness, fitness])
        keep = fitness.argsort(stable=True)[: self.population]
        self.survivors, self.fitness = masks[keep], fitness[keep]
        self.generation += 1

    def _first(self) -> PackedMasks:
        """The start, and neighbours of it from one swap up to a quarter of what may be chosen."""
        size = self.population + self.children
        reach = torch.linspace(0, 1, size - 1)
        swaps = (max(1, self.problem.choices // 4) ** reach).round().long()
        parents = self.problem.start[[0] * (size - 1)]
        return PackedMasks.cat([self.problem.start, self._mutated(parents, swaps)])

    def _next(self, survivors: PackedMasks) -> PackedMasks:
        first, second = (self._winners(len(survivors)) for _ in range(2))
        seeds = candidate_seeds(self.problem.seed, self.generation, self.children)
        children = crossover(survivors[first], survivors[second], seeds, check=False)  # all have the one budget
        # Mostly a swap or two; now and then many, to leave a local optimum.
        swaps = 1 + torch.poisson(torch.full((self.children,), 2.0), generator=self.random).long()
        return self._mutated(children, swaps)

    def _mutated(self, masks: PackedMasks, swaps: Tensor) -> PackedMasks:
        seeds = candidate_seeds(self.problem.seed, self.generation, len(masks))
        return mutate(masks, swaps, seeds, core=self.problem.core, within=self.problem.open)

    def _winners(self, survivors: int) -> Tensor:
        """Survivors are sorted, so the lowest number drawn is the best."""
        drawn = torch.randint(survivors, (self.children, self.tournament), generator=self.random)
        return drawn.min(dim=1).values
