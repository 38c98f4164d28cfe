"""Local search by swaps on the exact loss, on a shortlist that gradients propose.

A second-order score is a shortlist, never an answer: each swap is evaluated exactly, and so is each combination of
swaps, because swaps interact.
"""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.masks.operators import candidate_seeds, mutate, swap
from optprune_fast.search.problem import Problem
from optprune_fast.search.shortlist import shortlist
from optprune_fast.search.strategy import Ask, Strategy


class SwapSearch(Strategy):
    """Rounds of two questions: which single swaps help, and how many of them help together.

        shortlist ── pairs ──▶ singles (exact) ── best first ──▶ prefixes of 1, 2, 4, … swaps (exact) ──▶ accept

    Where no single swap helps, the next pairs further down the shortlist are asked for; where those do not help either,
    the best mask is kicked by random swaps and searched again.

    pairs:   swaps asked for at once
    kick:    share of the chosen weights that a kick swaps; 0 ends the search where no swap helps
    ranking: samples whose gradients rank, another part of the data each time
    """

    name = "swap"

    def __init__(self, pairs: int = 96, kick: float = 0.02, ranking: int = 5120) -> None:
        self.pairs, self.kick, self.ranking = pairs, kick, ranking

    def start(self, problem: Problem) -> None:
        self.problem = problem
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
            self.moves = self._propose()
        return self.parent, self.moves

    def tell(self, fitness: Tensor) -> None:
        fitness = fitness.cpu()
        if self.stage == "parent":
            self.loss = float(fitness[0])
            self._shortlist()
            self.stage = "singles"
        elif self.stage == "singles":
            gains = fitness < self.loss
            if not bool(gains.any()):
                self._deeper()
                return
            order = fitness.argsort(stable=True)
            self.moves = _prefixes(self.moves[order[: int(gains.sum())]])
            self.stage = "prefixes"
        else:
            best = int(fitness.argmin())
            self._accept(self.moves[best], float(fitness[best]))
            self.stage = "singles"

    def _accept(self, move: Tensor, loss: float) -> None:
        self.parent, self.loss, self.depth = swap(self.parent, move.reshape(1, -1)), loss, 0
        if loss < self.best_loss:
            self.best, self.best_loss = self.parent, loss
        self._shortlist()

    def _deeper(self) -> None:
        """No swap helped: look further down the shortlist, and at its end start from a kicked best mask."""
        self.depth += 1
        if (self.depth + 1) * self.pairs <= min(self.drops.numel(), self.adds.numel()) and self.depth < 8:
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
        parts = self.problem.parts(self.ranking)
        ranked = shortlist(self.problem, self.parent, None if len(parts) == 1 else parts[self.rankings % len(parts)])
        self.rankings += 1
        self.drops, self.adds = ranked.drops, ranked.adds

    def _propose(self) -> Tensor:
        """int64 [M, 2]: drops and adds of equal rank, the next `pairs` of them at each depth; no weight twice."""
        start = self.depth * self.pairs
        ranks = slice(start, min(start + self.pairs, self.drops.numel(), self.adds.numel()))
        return torch.stack([self.drops[ranks], self.adds[ranks]], dim=1)


def _prefixes(swaps: Tensor) -> Tensor:
    """int64 [M, F]: the first 1, 2, 3, 4, 6, 8, 12, … swaps as one move each, filled with -1; no weight twice."""
    lengths = sorted({min(n, len(swaps)) for i in range(16) for n in (1 << i, 3 << i)} | {len(swaps)})
    moves = torch.full((len(lengths), 2 * lengths[-1]), -1, device=swaps.device)
    for row, length in enumerate(lengths):
        moves[row, : 2 * length] = swaps[:length].flatten()
    return moves
