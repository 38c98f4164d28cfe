"""What a search may choose: budget, core and pool."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.magnitude import select
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.masks.ranking import start_mask
from optprune_fast.runtime.errors import message


@dataclass
class Work:
    """What a search spent beside the candidates that it asked for, in passes over all calibration data.

    screened:   forward passes of candidates over parts of the data
    gradients:  forward and backward passes
    """

    screened: float = 0.0
    gradients: float = 0.0


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
    magnitude:  the `k` largest weights, one mask
    start:      where a search starts, one mask: that of magnitude unless the caller knows a better one
    evaluator:  fitness on the calibration data
    seed:       of the run; a candidate's seed is a function of (seed, generation, index)
    work:       what the search spends beside the candidates that it asks for
    """

    layout: MaskLayout
    budget: int
    core: PackedMasks
    pool: PackedMasks
    magnitude: PackedMasks
    start: PackedMasks
    evaluator: Evaluator
    seed: int
    work: Work = field(default_factory=Work)

    @staticmethod
    def of(evaluator: Evaluator, sparsity: float, small: float, pool: float, seed: int,
           start: PackedMasks | str = "magnitude") -> Problem:
        """The problem of a sparsity, for the weights that the evaluator holds.

        small:  share of the kept weights that the search may choose, in [0, 1]; 0 is magnitude pruning
        pool:   fraction of all prunable weights beyond rank `k` to choose from, in [0, 1]; 1 is all of them
        start:  where a search starts: "magnitude", a scheme of `layer_budgets`, or a mask
        """
        check_shares(small, pool)
        layout, weights = evaluator.layout, evaluator.weights
        budget = layout.budget(sparsity)
        # More than there is beyond rank k cannot be asked for: pool=1 means everything.
        size = min(round(pool * layout.n), layout.n - budget)
        selection = select(layout, weights, budget, size)
        core = select(layout, weights, budget - int(small * budget), 0).mask
        problem = Problem(layout, budget, core, selection.pool, selection.mask, selection.mask, evaluator, seed)
        if isinstance(start, str) and start != "magnitude":
            start = start_mask(layout, weights, budget, core, start, within=problem.open)
        if isinstance(start, PackedMasks):
            problem = replace(problem, start=start)
            check_start(problem)
        return problem

    @cached_property
    def open(self) -> PackedMasks:
        """The weights to choose from: those of the magnitude mask that are not core, and the pool."""
        return (self.magnitude & ~self.core) | self.pool

    @cached_property
    def choices(self) -> int:
        """How many weights the search chooses."""
        return self.budget - int(self.core.count())

    @cached_property
    def fixed(self) -> bool:
        """Whether there is nothing to choose."""
        return self.choices == 0 or int(self.open.count()) == self.choices

    @cached_property
    def weights(self) -> Tensor:
        """float [n]: the prunable weights, in layout order, in float32 or wider."""
        flat = torch.cat([weight.flatten() for weight in self.evaluator.weights.values()])
        return flat.to(torch.promote_types(flat.dtype, torch.float32))

    @cached_property
    def is_open(self) -> Tensor:
        """bool [n]: `open`, in layout order."""
        return self.open.flat()[0]

    def gradients(self, mask: PackedMasks, evaluator: Evaluator | None = None) -> tuple[Tensor, Tensor]:
        """float [n] each: mean gradient and mean squared per-sample gradient, on all data or on a part."""
        judge = self.evaluator if evaluator is None else evaluator
        pairs = judge.gradients(mask).values()
        self.work.gradients += 1.0 if evaluator is None else evaluator.samples / self.evaluator.samples
        return torch.cat([g.flatten() for g, _ in pairs]).float(), torch.cat([f.flatten() for _, f in pairs]).float()

    def part(self, size: int, number: int) -> Evaluator:
        """One of the seeded random parts, of at least `size` samples each, that the calibration data are cut into; the
        numbers go round. All data where there are fewer than two parts, or where they are streamed. It is copied when
        it is first asked for, and kept."""
        parts = self.evaluator.samples // size
        if parts < 2 or not self.evaluator.batches.held:
            return self.evaluator
        key = (size, number % parts)
        if key not in self._parts:
            self._parts[key] = self.evaluator.subset(self._order.tensor_split(parts)[number % parts])
        return self._parts[key]

    def doublings(self, size: int) -> int:
        """How often a part of at least `size` samples doubles up to all calibration data; 0 where they are streamed."""
        return max(0, (self.evaluator.samples // size).bit_length() - 1) if self.evaluator.batches.held else 0

    def first_part(self, doublings: int) -> Evaluator:
        """So many doublings away from all data; the smaller is a part of the larger."""
        if doublings not in self._first_parts:
            some = self._order[:self.evaluator.samples >> doublings]
            self._first_parts[doublings] = self.evaluator.subset(some)
        return self._first_parts[doublings]

    def fitness_on(self, part: Evaluator, mask: PackedMasks) -> float:
        """The fitness of one mask on a part of the data; infinity for a NaN."""
        self.work.screened += part.samples / self.evaluator.samples
        fitness = float(part(mask)[0])
        return fitness if fitness == fitness else float("inf")

    def screen(self, parent: PackedMasks, moves: Tensor, number: int, size: int, keep: int) -> Tensor:
        """The `keep` moves that look best on one part of the data, part `number` of those of `size` samples."""
        part = self.part(size, number)
        if part is self.evaluator or len(moves) <= keep:
            return moves[:keep]
        self.work.screened += len(moves) * part.samples / self.evaluator.samples
        return moves[part.moves(parent, moves).nan_to_num(torch.inf).argsort(stable=True)[:keep]]

    @cached_property
    def _order(self) -> Tensor:
        return torch.randperm(self.evaluator.samples, generator=torch.Generator().manual_seed(self.seed))

    @cached_property
    def _parts(self) -> dict[tuple[int, int], Evaluator]:
        return {}

    @cached_property
    def _first_parts(self) -> dict[int, Evaluator]:
        return {}


def check_start(problem: Problem) -> None:
    """Raise `ValueError` unless a search may start there: a mask of this layout and budget, with the core."""
    start = problem.start
    if start.layout != problem.layout or len(start) != 1:
        raise ValueError(message("prune", "start must be one mask of the model's layout", start=start))
    if int(start.count()) != problem.budget or bool((start.words & problem.core.words != problem.core.words).any()):
        raise ValueError(message("prune", "start must keep exactly the budget, and the core", start=start,
                                 budget=problem.budget, core=problem.core))
    if bool((start.words & ~(problem.core.words | problem.open.words)).any()):
        raise ValueError(message("prune", "start keeps weights that are neither core nor may be chosen",
                                 "pool=1 lets every weight be chosen", start=start, pool=problem.pool))


def check_shares(small: float, pool: float) -> None:
    """Raise `ValueError` unless both shares lie in [0, 1]."""
    if not 0 <= small <= 1:
        raise ValueError(message("prune", "small must lie in [0, 1]: the share of the kept weights that the search "
                                 "may choose", small=small))
    if not 0 <= pool <= 1:
        raise ValueError(message("prune", "pool must lie in [0, 1]: a fraction of all prunable weights", pool=pool))
