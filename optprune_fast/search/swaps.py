"""Local search by swaps on the exact loss, on a shortlist that gradients propose.

A second-order score is a shortlist, never an answer: each swap is evaluated exactly, and so is each combination of
swaps, because swaps interact.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.operators import candidate_seeds, mutate, swap
from optprune_fast.search.problem import Problem
from optprune_fast.search.shortlist import shortlist
from optprune_fast.search.strategy import Ask, OnPart, Strategy


class SwapSearch(Strategy):
    """Rounds of two questions: which single swaps help, and how many of them help together.

        shortlist ── pairs ──▶ singles (exact) ── best first ──▶ prefixes of 1, 2, 4, … swaps (exact) ──▶ accept

    Where no single swap helps, the next pairs further down the shortlist are asked for. The first answers come from a
    part of the data, which doubles where those do not help either, and with the run's progress:

        answers come from    N / 8 ──▶ N / 4 ──▶ N / 2 ──▶ N, all data        the first of these is at least `first`

    Where no swap helps on all data, the best mask is kicked by random swaps and searched again.

    pairs:   swaps asked for at once
    kick:    share of the chosen weights that a kick swaps; 0 ends the search where no swap helps
    ranking: samples whose gradients rank, another part of the data each time
    first:   samples that answer at first, at least
    """

    name = "swap"
    derived: ClassVar[frozenset[str]] = frozenset({"problem", "doublings"})

    def __init__(self, pairs: int = 96, kick: float = 0.02, ranking: int = 5120, first: int = 5000) -> None:
        self.pairs, self.kick, self.ranking, self.first = pairs, kick, ranking, first

    def start(self, problem: Problem) -> None:
        self.problem = problem
        self.doublings, self.level = problem.doublings(self.first), 0
        self.parent, self.loss = problem.start, float("inf")
        self.best, self.best_loss = problem.start, float("inf")
        self.depth = self.kicks = self.rankings = 0
        self.stage = "parent"
        self.drops = self.adds = self.moves = torch.empty(0, dtype=torch.int64)

    def ask(self) -> Ask | None:
        if self.stage == "parent":
            return self.parent
        if self.problem.fixed or self.stage == "optimum":
            return None
        if self.stage == "singles":
            if self.level < self.doublings and self.progress * (self.doublings + 1) >= self.level + 1:
                self._double()
                return self.parent
            self.moves = self._propose()
        judge = self._judge()
        return (self.parent, self.moves) if judge is None else OnPart(self.parent, self.moves, judge)

    def _judge(self) -> Evaluator | None:
        """Who answers at this level; None is all data."""
        return None if self.level == self.doublings else self.problem.first_part(self.doublings - self.level)

    def tell(self, fitness: Tensor) -> None:
        fitness = fitness.cpu()
        if self.stage == "parent":
            judge = self._judge()
            self.loss = float(fitness[0]) if judge is None else self.problem.fitness_on(judge, self.parent)
            self._shortlist()
            self.stage = "singles"
        elif self.stage == "singles":
            gains = fitness < self.loss
            if not bool(gains.any()):
                self._deeper()
                return
            order = fitness.argsort(stable=True)
            self.moves = prefixes(self.moves[order[: int(gains.sum())]])
            self.stage = "prefixes"
        else:
            best = int(fitness.argmin())
            self._accept(self.moves[best], float(fitness[best]))
            self.stage = "singles"

    def _accept(self, move: Tensor, loss: float) -> None:
        self.parent, self.loss, self.depth = swap(self.parent, move.reshape(1, -1)), loss, 0
        if self.level == self.doublings and loss < self.best_loss:
            self.best, self.best_loss = self.parent, loss
        self._shortlist()

    def _double(self) -> None:
        """On to twice as many samples, and first of all to the loss of the mask there and on all data."""
        self.level, self.depth, self.stage = self.level + 1, 0, "parent"

    def _deeper(self) -> None:
        """No swap helped: look further down the shortlist, at its end on more data, and on all of them from a kicked
        best mask."""
        self.depth += 1
        if (self.depth + 1) * self.pairs <= min(self.drops.numel(), self.adds.numel()) and self.depth < 8:
            return
        if self.level < self.doublings:
            self._double()
            return
        if not self.kick:
            self.stage = "optimum"
            return
        self.depth, self.kicks = 0, self.kicks + 1
        if self.loss < self.best_loss:
            self.best, self.best_loss = self.parent, self.loss
        number = max(1, round(self.kick * self.problem.choices))
        seeds = candidate_seeds(self.problem.seed, self.kicks, 1)
        self.parent = mutate(self.best, number, seeds, core=self.problem.core, within=self.problem.open)
        self.stage = "parent"

    def _shortlist(self) -> None:
        ranked = shortlist(self.problem, self.parent, self.problem.part(self.ranking, self.rankings))
        self.rankings += 1
        self.drops, self.adds = ranked.drops, ranked.adds

    def _propose(self) -> Tensor:
        """int64 [M, 2]: drops and adds of equal rank, the next `pairs` of them at each depth; no weight twice."""
        start = self.depth * self.pairs
        ranks = slice(start, min(start + self.pairs, self.drops.numel(), self.adds.numel()))
        return torch.stack([self.drops[ranks], self.adds[ranks]], dim=1)


def prefixes(swaps: Tensor) -> Tensor:
    """int64 [M, F]: the first 1, 2, 3, 4, 6, 8, 12, … swaps as one move each, filled with -1; no weight twice."""
    lengths = sorted({min(n, len(swaps)) for i in range(16) for n in (1 << i, 3 << i)} | {len(swaps)})
    moves = torch.full((len(lengths), 2 * lengths[-1]), -1, device=swaps.device)
    for row, length in enumerate(lengths):
        moves[row, : 2 * length] = swaps[:length].flatten()
    return moves
