"""A search made ready: what `prune` does once, and `sweep` once for all its sparsities."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from optprune_fast.engine.batches import HELD_OUT, Data, collect, split
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.logit_scale import check_logit_scale
from optprune_fast.engine.objective import UserObjective
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.precision import DEFAULT, check_precision
from optprune_fast.recipe.identity import identity
from optprune_fast.recipe.result import Result, weights_digest
from optprune_fast.runtime.dispatch import check_backend
from optprune_fast.search import auto, strategy_named
from optprune_fast.search.journal import Journal
from optprune_fast.search.logit_scale import find_logit_scale
from optprune_fast.search.problem import Problem, check_shares
from optprune_fast.search.run import Limits, Outcome, run
from optprune_fast.search.strategy import Strategy

TIME_LIMIT = 60.0
SMALL, POOL = 1.0, 1.0  # measured: docs/RESULTS.md, core and pool


@dataclass(frozen=True)
class Prepared:
    """Arguments checked, data split, evaluators built; only the sparsity and the start are open.

    calibration:  fitness on what the search sees
    validation:   fitness on what selects
    held_out:     which data that is, in words
    logit_scale:  of the search, or None: found for each sparsity
    """

    calibration: Evaluator
    validation: Evaluator
    held_out: str
    strategy: Strategy
    small: float
    pool: float
    limits: Limits
    seed: int
    logit_scale: float | None

    @staticmethod
    def of(model: nn.Module, data: Data, sparsities: Sequence[float], strategy: str | Strategy, small: float | None,
           pool: float | None, validation: Data | None, evaluations: int | None, time_limit: float | None, seed: int,
           objective: str | UserObjective, backend: str, layout: MaskLayout | None,
           logit_scale: float | None = None, precision: str = DEFAULT) -> Prepared:
        """The arguments are those of `prune`, and are checked before the data are read."""
        # A time limit that nobody asked for would make the mask depend on the machine's speed.
        limits = Limits(evaluations, TIME_LIMIT if time_limit is None and evaluations is None else time_limit)
        searcher = strategy_named(strategy)
        layout = MaskLayout.of(model) if layout is None else layout
        for sparsity in sparsities:
            layout.budget(sparsity)
        share, reach = SMALL if small is None else small, POOL if pool is None else pool
        check_shares(share, reach)
        check_backend(backend)
        check_precision("prune", precision)
        if logit_scale is not None:
            check_logit_scale("prune", logit_scale, objective)
        batches = collect(data)
        if validation is None:
            calibration, held_out = split(batches, HELD_OUT, seed)
            name = f"a seeded {HELD_OUT:.0%} of the data"
        else:
            calibration, held_out, name = batches, collect(validation), "validation data of the caller"
        # Which candidates go to torch differs between instruction sets, and a seed must give one mask on all of them.
        evaluator = Evaluator(model, calibration, objective, backend, layout=layout, hand_over=False,
                              precision=precision)
        judge = evaluator.on(held_out)
        if strategy == "auto":
            searcher = auto(evaluator, limits.seconds)
        return Prepared(evaluator, judge, name, searcher, share, reach, limits, seed,
                        logit_scale if objective == "cross_entropy" else 1.0)

    def problem(self, sparsity: float, start: str | PackedMasks = "magnitude") -> Problem:
        """What may be chosen at a sparsity, and where the search of it starts."""
        return Problem.of(self.calibration, sparsity, self.small, self.pool, self.seed, start)

    def search(self, problem: Problem, sparsity: float, journal: str | os.PathLike[str] | None,
               progress: bool | None, title: str = "prune") -> Result:
        """Search, judge, and say where the mask comes from. `title` names the progress bar."""
        kept = None
        if journal is not None:
            known = identity(problem, self.strategy, self.limits, self.validation)
            kept = Journal.at(journal, {**known, "logit_scale": self.logit_scale})
        start = time.monotonic()
        try:
            scale = self._scale(problem, kept)
            outcome = run(replace(problem, evaluator=self.calibration.scaled(scale)), self.strategy,
                          self.validation.scaled(scale), self.limits, journal=kept, progress=progress, title=title,
                          spent=time.monotonic() - start)
        except KeyboardInterrupt:  # before there was a mask to keep
            scale, outcome = 1.0, Outcome(problem.magnitude, math.inf, math.inf, stopped_by="interrupt")
        mask, fitness, baseline, calibration = self._judged(problem, outcome.mask)
        return Result(
            mask=mask, core=problem.core, magnitude=problem.magnitude, fitness=fitness, baseline=baseline,
            history=outcome.history, sparsity=float(sparsity), small=float(self.small),
            seed=self.seed, strategy=self.strategy.name, objective=self.calibration.objective.name,
            held_out=self.held_out, evaluations=outcome.evaluations, seconds=outcome.seconds,
            stopped_by=outcome.stopped_by, base_digest=weights_digest(self.calibration.weights),
            screened=problem.work.screened, gradient_passes=problem.work.gradients,
            logit_scale=scale, calibration_fitness=calibration, precision=self.calibration.precision)

    def _scale(self, problem: Problem, journal: Journal | None) -> float:
        """Of the logits in the search. One that goes on from its journal has the scale that it had."""
        if self.logit_scale is not None:
            return self.logit_scale
        written = None if journal is None else journal.read(problem.layout)
        if written is not None:
            return float(written.get("logit_scale", 1.0))
        return find_logit_scale(problem, self.validation, self.limits.seconds)

    def _judged(self, problem: Problem, found: PackedMasks) -> tuple[PackedMasks, float, float, float]:
        """(mask, its fitness, that of magnitude's mask, its calibration fitness): of logits as they are and in fp32,
        whatever the search multiplied, and how. What is then worse than magnitude's mask on the held-out part is not
        returned."""
        both = self.validation.in_fp32()(PackedMasks.cat([found, problem.magnitude]))
        fitness, baseline = both.nan_to_num(math.inf, math.inf).tolist()
        mask = found if fitness <= baseline else problem.magnitude
        return mask, min(fitness, baseline), baseline, float(self.calibration.in_fp32()(mask)[0])
