"""Simulated annealing on exact swaps that gradients propose and a part of the data screens."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from optprune_fast.masks.operators import swap
from optprune_fast.search.problem import Problem
from optprune_fast.search.shortlist import Shortlist, shortlist
from optprune_fast.search.strategy import Ask, Strategy


class Annealing(Strategy):
    """Metropolis steps (Kirkpatrick, Gelatt and Vecchi 1983) between neighbours of one mask.

        ranks ── log-uniform draws ──▶ `wide` swaps ── one part of the data ──▶ `keep` swaps (exact) ──▶ accept one

    A swap that lowers the loss is accepted, another with probability exp(-change / temperature). The temperature falls
    geometrically with the run's progress, from `hot` to `cold`, both in shares of the loss at the start.

    wide:      swaps that are proposed at once, twice as likely at half the rank
    keep:      those of them that are evaluated on all calibration data
    part:      samples that screen; another part each time, so that no few samples decide
    refresh:   accepted swaps after which gradients rank anew, on `ranking` samples
    """

    name = "annealing"

    def __init__(self, wide: int = 384, keep: int = 24, part: int = 1024, hot: float = 1e-3, cold: float = 1e-5,
                 refresh: int = 15, ranking: int = 2560) -> None:
        self.wide, self.keep, self.part, self.hot, self.cold = wide, keep, part, hot, cold
        self.refresh, self.ranking = refresh, ranking

    def start(self, problem: Problem) -> None:
        self.problem = problem
        self.random = torch.Generator().manual_seed(problem.seed)
        self.parent, self.loss, self.first_loss = problem.start, math.inf, math.inf
        self.questions = self.rankings = self.since = 0
        self.drops = self.adds = self.moves = torch.empty(0, dtype=torch.int64)

    def ask(self) -> Ask | None:
        if self.questions == 0:
            return self.parent
        if self.problem.fixed:
            return None
        if self.since >= self.refresh or self.rankings == 0:
            self._rank()
        self.moves = self.problem.screen(self.parent, self._propose(), self.questions, self.part, self.keep)
        return self.parent, self.moves

    def tell(self, fitness: Tensor) -> None:
        fitness = fitness.cpu()
        self.questions += 1
        if self.questions == 1:
            self.loss = self.first_loss = float(fitness[0])
            return
        temperature = abs(self.first_loss) * self.hot * (self.cold / self.hot) ** self.progress
        luck = torch.rand(len(fitness), generator=self.random, dtype=torch.float64)
        accepted = (fitness.double() - self.loss <= -temperature * luck.log()).nonzero().flatten()
        if accepted.numel():
            # The best of the screened first, so the first is the likeliest to be good.
            self._accept(self.moves[accepted[0]], float(fitness[accepted[0]]))

    def _accept(self, move: Tensor, loss: float) -> None:
        self.parent, self.loss = swap(self.parent, move.reshape(1, -1)), loss
        self.since += 1

    def _rank(self) -> None:
        parts = self.problem.parts(self.ranking)
        part = None if len(parts) == 1 else parts[self.rankings % len(parts)]
        ranked: Shortlist = shortlist(self.problem, self.parent, part)
        self.drops, self.adds = ranked.drops, ranked.adds
        self.rankings, self.since = self.rankings + 1, 0

    def _propose(self) -> Tensor:
        """int64 [M, 2]: distinct swaps of weights that are still kept and still dropped, in random order."""
        kept = self.parent.flat()[0]
        drops, adds = self.drops[kept[self.drops]], self.adds[~kept[self.adds]]
        if not drops.numel() or not adds.numel():  # all of a short list were swapped since
            self._rank()
            drops, adds = self.drops, self.adds
        drawn = torch.stack([drops[self._ranks(len(drops))], adds[self._ranks(len(adds))]], dim=1)
        distinct: Tensor = torch.unique(drawn, dim=0)
        return distinct[torch.randperm(len(distinct), generator=self.random)]

    def _ranks(self, size: int) -> Tensor:
        """int64 [wide] in [0, size): low ranks as often as the many high ones together."""
        drawn = torch.rand(self.wide, generator=self.random, dtype=torch.float64)
        return ((drawn * math.log(size + 1)).exp() - 1).long().clamp(max=size - 1)

