"""Simulated annealing on exact swaps that gradients propose and a part of the data screens."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.operators import swap
from optprune_fast.search.problem import Problem
from optprune_fast.search.shortlist import shortlist
from optprune_fast.search.strategy import Ask, OnPart, Strategy
from optprune_fast.search.swaps import prefixes


class Annealing(Strategy):
    """Metropolis steps (Kirkpatrick, Gelatt and Vecchi 1983) between neighbours of one mask.

        ranks ── log-uniform draws ──▶ `wide` swaps ── one part of the data ──▶ `keep` swaps (exact)
              ── the accepted, best first ──▶ the first 1, 2, 3, … of them as one move (exact) ──▶ the longest accepted

    A swap that lowers the loss is accepted, another with probability exp(-change / temperature). The temperature falls
    geometrically with the run's progress, from `hot` to `cold`, both in shares of the loss at the start. What accepts
    grows with it, since a cold chain is decided by differences that few samples do not show:

        progress        0 ─────── 1/4 ─────── 1/2 ─────── 3/4 ─────── 1
        accepts on        N / 8   │   N / 4   │   N / 2   │     N           the first of these is at least `first`
        asked on all N    the mask, every `leg` steps     │   each swap

    wide:      swaps that are proposed at once, twice as likely at half the rank
    keep:      those of them that may be accepted
    part:      samples that screen; another part each time, so that no few samples decide
    first:     samples that accept at first, at least
    leg:       steps on a part of the data after which the mask is asked about on all of them
    refresh:   accepted swaps after which gradients rank anew, on `ranking` samples
    """

    name = "annealing"
    derived: ClassVar[frozenset[str]] = frozenset({"problem", "doublings"})

    def __init__(self, wide: int = 192, keep: int = 48, part: int = 1024, hot: float = 3e-3, cold: float = 1e-5,
                 refresh: int = 40, ranking: int = 2560, first: int = 5000, leg: int = 16) -> None:
        self.wide, self.keep, self.part, self.hot, self.cold = wide, keep, part, hot, cold
        self.refresh, self.ranking, self.first, self.leg = refresh, ranking, first, leg

    def start(self, problem: Problem) -> None:
        self.problem = problem
        self.doublings = problem.doublings(self.first)
        self.random = torch.Generator().manual_seed(problem.seed)
        self.parent, self.loss, self.first_loss = problem.start, math.inf, math.inf
        self.questions = self.rankings = self.since = self.level = self.steps = 0
        self.stage = "parent"
        self.drops = self.adds = self.moves = torch.empty(0, dtype=torch.int64)

    def ask(self) -> Ask | None:
        if self.questions and self.problem.fixed:
            return None
        if self.stage == "parent":
            return self.parent
        if self.stage == "singles":
            if self.since >= self.refresh or self.rankings == 0:
                self._rank()
            self.moves = self.problem.screen(self.parent, self._propose(), self.questions, self.part, self.keep)
        judge = self._judge()
        return (self.parent, self.moves) if judge is None else OnPart(self.parent, self.moves, judge)

    def _judge(self) -> Evaluator | None:
        """What accepts at this level; None is all data."""
        return None if self.level == self.doublings else self.problem.first_part(self.doublings - self.level)

    def tell(self, fitness: Tensor) -> None:
        fitness = fitness.cpu()
        self.questions += 1
        if self.stage == "parent":
            self._told_of_parent(float(fitness[0]))
            return
        temperature = abs(self.first_loss) * self.hot * (self.cold / self.hot) ** self.progress
        luck = torch.rand(len(fitness), generator=self.random, dtype=torch.float64)
        accepted = (fitness.double() - self.loss <= -temperature * luck.log()).nonzero().flatten()
        if self.stage == "singles":
            together = disjoint(self.moves[accepted[fitness[accepted].argsort(stable=True)]])
            if len(together) > 1:
                self.moves, self.stage = prefixes(together), "prefixes"
                return
        if accepted.numel() or self.stage == "prefixes":  # the first of the prefixes was accepted on its own
            longest = int(accepted[-1]) if accepted.numel() else 0
            self._accept(self.moves[longest], float(fitness[longest]))
        self.steps += 1
        # On all data the parent's loss is known already.
        self.stage = "parent" if self.level < self.doublings and self.steps >= self.leg else "singles"

    def _told_of_parent(self, loss: float) -> None:
        if self.questions == 1:
            self.first_loss = loss
        self.stage, self.steps = "singles", 0
        level = min(self.doublings, int(self.progress * (self.doublings + 1)))
        if level != self.level or self.questions == 1:
            self.level = level
            judge = self._judge()
            self.loss = loss if judge is None else self.problem.fitness_on(judge, self.parent)

    def _accept(self, move: Tensor, loss: float) -> None:
        self.parent, self.loss = swap(self.parent, move.reshape(1, -1)), loss
        self.since += int((move >= 0).sum()) // 2

    def _rank(self) -> None:
        ranked = shortlist(self.problem, self.parent, self.problem.part(self.ranking, self.rankings))
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


def disjoint(swaps: Tensor) -> Tensor:
    """int64 [m, 2]: the swaps, in order, without those that share a weight with one before them.

    >>> disjoint(torch.tensor([[0, 5], [1, 5], [1, 6], [0, 7]])).tolist()
    [[0, 5], [1, 6]]
    """
    seen: set[int] = set()
    rows = []
    for row, swapped in enumerate(swaps.tolist()):
        if seen.isdisjoint(swapped):
            seen.update(swapped)
            rows.append(row)
    return swaps[rows]
