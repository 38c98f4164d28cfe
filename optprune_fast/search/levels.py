"""Search over how many weights each layer keeps, at a fixed total; in a layer, the largest stay."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.masks.budgets import SCHEMES, kept_by_layer, layer_counts
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.masks.ranking import layer_ranks, ranked_masks
from optprune_fast.search.problem import Problem
from optprune_fast.search.strategy import Strategy

OCTAVES = 6  # the steps of one generation span a factor of 2⁶
DRAWS = 8  # for each child, since some were asked for before


class Levels(Strategy):
    """One parent and its children by level switches, as in EvoPress (Sieberling et al., ICML 2025).

        starts: global, uniform, erk, lamp ──▶ parent ──▶ children ──▶ the best of both is the next parent
        a switch: one layer keeps `step` weights less, another `step` more

    The steps of a generation run from `reach` down to a 64th of it in equal ratios. `reach` follows the step that paid,
    and is halved where none did. A mask is asked for once; where draws find no new one, the search is at its end.

    children:  masks of a generation
    switches:  the most switches between a parent and a child
    """

    name = "levels"

    def __init__(self, children: int = 16, switches: int = 2) -> None:
        self.children, self.switches = children, switches

    def start(self, problem: Problem) -> None:
        self.problem = problem
        self.random = torch.Generator().manual_seed(problem.seed)
        self.ranks = layer_ranks(problem.layout, problem.evaluator.weights, core=problem.core, within=problem.open)
        self.least = kept_by_layer(problem.core)[0].tolist()
        self.most = kept_by_layer(problem.core | problem.open)[0].tolist()
        self.loss = float("inf")
        self.seen: dict[str, float] = {}  # fitness by counts
        self.reach = self.widest = max(1, problem.choices // 4)
        self.asked = self._starts()
        self.steps = torch.full((len(self.asked),), self.reach)

    def ask(self) -> PackedMasks | None:
        if self.seen:
            self._breed()
        if len(self.asked) == 0:
            return None
        return ranked_masks(self.problem.layout, self.ranks, self.asked.to(self.ranks.device))

    def tell(self, fitness: Tensor) -> None:
        best = int(fitness.argmin())
        loss, first = float(fitness[best]), not self.seen
        self.seen.update(zip(map(_key, self.asked.tolist()), fitness.tolist(), strict=True))
        if loss < self.loss or first:
            self.parent, self.loss = self.asked[best], loss
            self.reach = min(self.widest, 4 * int(self.steps[best]))
        else:
            self.reach = self.reach // 2 or self.widest

    def _starts(self) -> Tensor:
        """int64 [S, layers]: where the search starts, then where the schemes do, each once."""
        problem, weights = self.problem, self.problem.evaluator.weights
        starts = kept_by_layer(problem.start).tolist()
        for scheme in SCHEMES:
            counts = layer_counts(problem.layout, weights, problem.budget, scheme, core=problem.core,
                                  within=problem.open)
            if counts not in starts:
                starts.append(counts)
        return torch.tensor(starts)

    def _breed(self) -> None:
        """Children that were not asked for before, as many of them as the draws find."""
        found: dict[str, tuple[list[int], int]] = {}
        for draw in range(DRAWS * self.children):
            if draw < DRAWS * self.children // 2:
                octave = OCTAVES * (len(found) + self._uniform()) / self.children
                step = max(1, round(self.reach / 2 ** octave))
            else:  # what is near is known: look everywhere
                step = 1 + int(self._uniform() * self.problem.choices)
            child = self._switched(step)
            if _key(child) not in self.seen:
                found.setdefault(_key(child), (child, step))
            if len(found) == self.children:
                break
        self.asked = torch.tensor([child for child, _ in found.values()])
        self.steps = torch.tensor([step for _, step in found.values()])

    def _switched(self, step: int) -> list[int]:
        """The parent after one to `switches` switches, mostly few."""
        counts: list[int] = self.parent.tolist()
        number = min(1 + int(self._uniform() * self.switches) for _ in range(2))
        for _ in range(number):
            spare = [count - least for count, least in zip(counts, self.least, strict=True)]
            room = [most - count for count, most in zip(counts, self.most, strict=True)]
            giver, taker = self._pick(spare), self._pick(room)
            if giver != taker and giver >= 0 and taker >= 0:
                moved = min(step, spare[giver], room[taker])
                counts[giver] -= moved
                counts[taker] += moved
        return counts

    def _pick(self, weights: list[int]) -> int:
        """A layer that has any of the weights in question, -1 if none has."""
        layers = [layer for layer, number in enumerate(weights) if number]
        return layers[int(self._uniform() * len(layers))] if layers else -1

    def _uniform(self) -> float:
        return float(torch.rand(1, generator=self.random))


def _key(counts: list[int]) -> str:
    return ",".join(map(str, counts))
