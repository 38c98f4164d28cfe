"""What a search may choose: budget, core and pool."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.magnitude import select
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import message


@dataclass(frozen=True)
class Problem:
    """Keep exactly `budget` weights: all of `core`, the others out of `open`.

        weights by magnitude, largest first
        ├── core ──┤├─ small · k ─┤├──── pool ────┤
        ├────── rank k ──────────┤
                    ├──────── open ───────────────┤

    layout:     the prunable weights
    budget:     kept weights `k`
    core:       the `k - floor(small * k)` largest weights, one mask
    pool:       the weights that follow rank `k`, one mask
    magnitude:  the `k` largest weights, one mask: where every search starts
    evaluator:  fitness on the calibration data
    seed:       of the run; a candidate's seed is a function of (seed, generation, index)
    """

    layout: MaskLayout
    budget: int
    core: PackedMasks
    pool: PackedMasks
    magnitude: PackedMasks
    evaluator: Evaluator
    seed: int

    @staticmethod
    def of(evaluator: Evaluator, sparsity: float, small: float, pool: float, seed: int) -> Problem:
        """The problem of a sparsity, for the weights that the evaluator holds.

        small:  share of the kept weights that the search may choose, in [0, 1]; 0 is magnitude pruning
        pool:   fraction of all prunable weights beyond rank `k` to choose from, in [0, 1]; 1 is all of them
        """
        check_shares(small, pool)
        layout, weights = evaluator.layout, evaluator.weights
        budget = layout.budget(sparsity)
        # More than there is beyond rank k cannot be asked for: pool=1 means everything.
        size = min(round(pool * layout.n), layout.n - budget)
        selection = select(layout, weights, budget, size)
        core = select(layout, weights, budget - int(small * budget), 0).mask
        return Problem(layout, budget, core, selection.pool, selection.mask, evaluator, seed)

    @cached_property
    def open(self) -> PackedMasks:
        """The weights to choose from: those of the magnitude mask that are not core, and the pool."""
        return (self.magnitude & ~self.core) | self.pool

    @cached_property
    def choices(self) -> int:
        """How many weights the search chooses."""
        return self.budget - int(self.core.count())

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to choose."""
        return self.choices == 0 or int(self.open.count()) == self.choices


def check_shares(small: float, pool: float) -> None:
    """Raise `ValueError` unless both shares lie in [0, 1]."""
    if not 0 <= small <= 1:
        raise ValueError(message("prune", "small must lie in [0, 1]: the share of the kept weights that the search "
                                 "may choose", small=small))
    if not 0 <= pool <= 1:
        raise ValueError(message("prune", "pool must lie in [0, 1]: a fraction of all prunable weights", pool=pool))
