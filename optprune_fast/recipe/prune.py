"""`prune`: the mask of a sparsity that an optimizer finds, judged on data that the search never saw."""

from __future__ import annotations

import os

from torch import nn

from optprune_fast.engine.batches import HELD_OUT, Data, collect, split
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.objective import UserObjective
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.recipe.identity import identity
from optprune_fast.recipe.result import Result, weights_digest
from optprune_fast.runtime.dispatch import check_backend
from optprune_fast.search import AUTO_WITHOUT_GRADIENTS, strategy_named
from optprune_fast.search.journal import Journal
from optprune_fast.search.problem import Problem, check_shares
from optprune_fast.search.run import Limits, run
from optprune_fast.search.strategy import Strategy

TIME_LIMIT = 60.0
SMALL, POOL = 1.0, 1.0  # measured: docs/RESULTS.md, core and pool


def prune(model: nn.Module, data: Data, sparsity: float = 0.95, strategy: str | Strategy = "auto",
          small: float | None = None, pool: float | None = None, validation: Data | None = None,
          evaluations: int | None = None, time_limit: float | None = None, seed: int = 0, *,
          objective: str | UserObjective = "cross_entropy", backend: str = "auto", layout: MaskLayout | None = None,
          start: str | PackedMasks = "magnitude", journal: str | os.PathLike[str] | None = None,
          progress: bool | None = None) -> Result:
    """Find which weights of a trained network to keep: large ones, and the small ones that help the real loss.

    model:        any trained `nn.Module`; it is never changed
    data:         calibration samples, as `Evaluator` takes them
    sparsity:     fraction of the prunable weights to prune, in [0, 1); exactly `k = n - round(sparsity * n)` are kept
    strategy:     "auto", "genetic", "levels", "swap", or a `Strategy` of your own
    small:        share of the kept weights that the search may choose; the others are the core, the largest weights.
                  None is 1: no core
    pool:         fraction of all prunable weights, beyond rank `k`, to choose from; None is 1: all of them
    validation:   data to select by; None holds out a seeded 10 % of `data`
    evaluations:  candidates to evaluate on the calibration data; under it alone, a seed gives the same mask bit for bit
    time_limit:   seconds; None is 60 where `evaluations` is not given, and no limit where it is
    seed:         of the split and of the search
    objective:    as `Evaluator` takes it
    start:        where the search starts: "magnitude", a scheme of `layer_budgets`, or a mask of your own
    journal:      a file from which a search that was stopped, by Ctrl-C or a kill, goes on when it is started again
                  with the same arguments; under a limit of evaluations it ends bit for bit like one never stopped
    progress:     True, False, or None: a bar on a terminal and silence elsewhere
    returns:      `Result`; its `fitness` and the `baseline` of magnitude pruning are on the validation data

    Ctrl-C ends the search and returns the best mask so far. Raises `ValueError` for wrong arguments before any work.

    >>> import torch
    >>> torch.manual_seed(0); model = nn.Linear(16, 4)  # doctest: +ELLIPSIS
    <torch...>
    >>> x = torch.randn(200, 16)
    >>> result = prune(model, (x, model(x).argmax(1)), sparsity=0.5, evaluations=300)
    >>> int(result.mask.count()), result.fitness <= result.baseline
    (32, True)
    """
    # A time limit that nobody asked for would make the mask depend on the machine's speed.
    limits = Limits(evaluations, TIME_LIMIT if time_limit is None and evaluations is None else time_limit)
    searcher = strategy_named(strategy)
    layout = MaskLayout.of(model) if layout is None else layout
    layout.budget(sparsity)
    share, reach = SMALL if small is None else small, POOL if pool is None else pool
    check_shares(share, reach)
    check_backend(backend)
    batches = collect(data)
    if validation is None:
        calibration, held_out = split(batches, HELD_OUT, seed)
        held_out_name = f"a seeded {HELD_OUT:.0%} of the data"
    else:
        calibration, held_out, held_out_name = batches, collect(validation), "validation data of the caller"
    evaluator = Evaluator(model, calibration, objective, backend, layout=layout)
    judge = Evaluator(model, held_out, objective, backend, layout=layout)
    if strategy == "auto" and evaluator.objective.whole is not None:
        searcher = strategy_named(AUTO_WITHOUT_GRADIENTS)
    problem = Problem.of(evaluator, sparsity, share, reach, seed, start)
    kept = None if journal is None else Journal.at(journal, identity(problem, searcher, limits, judge))
    outcome = run(problem, searcher, judge, limits, journal=kept, progress=progress)
    return Result(
        mask=outcome.mask, core=problem.core, magnitude=problem.magnitude, fitness=outcome.validation,
        baseline=outcome.baseline, history=outcome.history, sparsity=float(sparsity), small=float(share),
        seed=seed, strategy=searcher.name, objective=evaluator.objective.name, held_out=held_out_name,
        evaluations=outcome.evaluations, seconds=outcome.seconds, stopped_by=outcome.stopped_by,
        base_digest=weights_digest(evaluator.weights), screened=problem.work.screened,
        gradient_passes=problem.work.gradients)
