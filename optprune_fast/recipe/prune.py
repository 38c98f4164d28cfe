"""`prune`: the mask of a sparsity that an optimizer finds, judged on data that the search never saw."""

from __future__ import annotations

import os

from torch import nn

from optprune_fast.engine.batches import Data
from optprune_fast.engine.objective import UserObjective
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.precision import DEFAULT
from optprune_fast.recipe.prepared import Prepared
from optprune_fast.recipe.result import Result
from optprune_fast.search.strategy import Strategy


def prune(model: nn.Module, data: Data, sparsity: float = 0.95, strategy: str | Strategy = "auto",
          small: float | None = None, pool: float | None = None, validation: Data | None = None,
          evaluations: int | None = None, time_limit: float | None = None, seed: int = 0, *,
          objective: str | UserObjective = "cross_entropy", backend: str = "auto", layout: MaskLayout | None = None,
          logit_scale: float | None = None, start: str | PackedMasks = "magnitude",
          journal: str | os.PathLike[str] | None = None, progress: bool | None = None,
          precision: str = DEFAULT) -> Result:
    """Find which weights of a trained network to keep: large ones, and the small ones that help the real loss.

    model:        any trained `nn.Module`; it is never changed
    data:         calibration samples, as `Evaluator` takes them
    sparsity:     fraction of the prunable weights to prune, in [0, 1); exactly `k = n - round(sparsity * n)` are kept
    strategy:     "auto", another name (optprune_fast.search.STRATEGIES, ADAPTERS), or a `Strategy` of your own
    small:        share of the kept weights that the search may choose; the others are the core, the largest weights.
                  None is 1: no core
    pool:         fraction of all prunable weights, beyond rank `k`, to choose from; None is 1: all of them
    validation:   data to select by; None holds out a seeded 10 % of `data`
    evaluations:  candidates to evaluate on the calibration data; under it alone, a seed gives the same mask bit for bit
    time_limit:   seconds; None is 60 where `evaluations` is not given, and no limit where it is
    seed:         of the split and of the search
    objective:    as `Evaluator` takes it
    logit_scale:  what the search multiplies logits with before cross-entropy is taken. None finds it by a short search:
                  networks of few weights have small logits, and a search that had to keep them large would have fewer
                  weights left to be right with. 1 takes the loss as it is
    start:        where the search starts: "magnitude", a scheme of `layer_budgets`, or a mask of your own
    journal:      a file from which a search that was stopped, by Ctrl-C or a kill, goes on when it is started again
                  with the same arguments; under a limit of evaluations it ends bit for bit like one never stopped
    progress:     True, False, or None: a bar on a terminal and silence elsewhere
    precision:    how the search multiplies in masked layers, as `Evaluator` takes it: a choice of the triton backend.
                  Gradients are torch's, and what is returned was judged in fp32
    returns:      `Result`; its `fitness` and the `baseline` of magnitude pruning are on the validation data, of logits
                  as they are

    Ctrl-C ends the search and returns the best mask so far. Raises `ValueError` for wrong arguments before any work.

    >>> import torch
    >>> torch.manual_seed(0); model = nn.Linear(16, 4)  # doctest: +ELLIPSIS
    <torch...>
    >>> x = torch.randn(200, 16)
    >>> result = prune(model, (x, model(x).argmax(1)), sparsity=0.5, evaluations=300)
    >>> int(result.mask.count()), result.fitness <= result.baseline
    (32, True)
    """
    ready = Prepared.of(model, data, [sparsity], strategy, small, pool, validation, evaluations, time_limit, seed,
                        objective, backend, layout, logit_scale, precision)
    return ready.search(ready.problem(sparsity, start), sparsity, journal, progress)
