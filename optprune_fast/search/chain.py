"""One strategy after another, each from the best mask of those before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from optprune_fast.masks.operators import swap
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.search.problem import Problem
from optprune_fast.search.strategy import Ask, OnPart, Strategy


class Chain(Strategy):
    """Run each stage until it has nothing left to try, or its share of the run is used up.

    stages: (strategy, share of the run at which it ends), shares ascending; the last ends with the run
    name:   of the whole; the names of the stages if not given
    """

    derived: ClassVar[frozenset[str]] = frozenset({"problem", "stages", "asked"})

    def __init__(self, stages: Sequence[tuple[Strategy, float]], name: str = "") -> None:
        self.stages = list(stages)
        self.name = name or ", then ".join(strategy.name for strategy, _ in self.stages)

    def start(self, problem: Problem) -> None:
        self.problem = problem
        self.best, self.best_fitness = problem.start, math.inf
        self._enter(0)

    def ask(self) -> Ask | None:
        while True:
            strategy, end = self.stages[self.stage]
            last = self.stage == len(self.stages) - 1
            strategy.progress = min(1.0, (self.progress - self.begin) / max((1.0 if last else end) - self.begin, 1e-9))
            self.asked = None if strategy.progress >= 1 and not last else strategy.ask()
            if self.asked is not None or last:
                return self.asked
            self._enter(self.stage + 1)

    def tell(self, fitness: Tensor) -> None:
        assert self.asked is not None
        winner = int(fitness.argmin())
        if not isinstance(self.asked, OnPart) and float(fitness[winner]) < self.best_fitness:
            parent, moves = (self.asked, None) if isinstance(self.asked, PackedMasks) else self.asked
            self.best = parent[winner] if moves is None else swap(parent, moves[winner:winner + 1])
            self.best_fitness = float(fitness[winner])
        self.stages[self.stage][0].tell(fitness)

    def knobs(self) -> dict[str, Any]:
        return {"stages": [(strategy.name, strategy.knobs(), end) for strategy, end in self.stages]}

    def state(self) -> dict[str, Any]:
        return {**super().state(), "inner": self.stages[self.stage][0].state()}

    def restore(self, state: dict[str, Any]) -> None:
        inner = state["inner"]
        super().restore({name: value for name, value in state.items() if name != "inner"})
        strategy = self.stages[self.stage][0]
        strategy.start(replace(self.problem, start=self.origin))
        strategy.restore(inner)

    def _enter(self, stage: int) -> None:
        self.stage, self.begin, self.origin = stage, self.progress, self.best
        self.stages[stage][0].start(replace(self.problem, start=self.origin))
