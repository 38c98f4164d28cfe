"""The cross-entropy method: learn with which probability each open weight is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.search.latent import LatentStrategy, chosen
from optprune_fast.search.problem import Problem


class CrossEntropy(LatentStrategy):
    """Draw masks from log-odds of keeping each weight, and move the log-odds to the best masks drawn.

    Candidates keep the top log-odds plus Gumbel noise: drawing without replacement, exactly to the budget.

    population:  candidates of a generation
    elite:       share of them that are learned from
    rate:        how far the probabilities move to those of the elite
    spread:      of the first log-odds, in standard deviations of `|w|`: the smaller, the closer to where it starts
    """

    name = "cross_entropy"

    def __init__(self, population: int = 50, elite: float = 0.1, rate: float = 0.3, spread: float = 0.5) -> None:
        self.population, self.elite, self.rate, self.spread = population, elite, rate, spread

    def start(self, problem: Problem) -> None:
        super().start(problem)
        self.probability = torch.empty(0)
        if not problem.fixed:
            edge = self.first.sort(descending=True).values[problem.choices - 1:problem.choices + 1].mean()
            self.probability = torch.sigmoid((self.first - edge) / self.spread)
        self.best, self.best_fitness = torch.empty(0), torch.empty(0)

    def propose(self) -> Tensor:
        odds = torch.logit(self.probability, eps=1e-6)
        gumbel = -(-self.uniform(self.population, len(odds)).clamp(min=1e-20).log()).log()
        self.asked = odds + gumbel
        if self.generation == 0:
            self.asked[0] = self.first
        return self.asked

    def learn(self, fitness: Tensor) -> None:
        masks = chosen(self.asked, self.problem.choices)
        if self.generation:  # the elite of before takes part again
            masks, fitness = torch.cat([self.best, masks]), torch.cat([self.best_fitness, fitness])
        elite = fitness.argsort(stable=True)[: max(1, round(self.elite * self.population))]
        self.best, self.best_fitness = masks[elite], fitness[elite]
        self.probability += self.rate * (self.best.to(self.probability).mean(0) - self.probability)
