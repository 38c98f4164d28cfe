"""`sweep`: a mask for each of many sparsities from one run, each search started from the mask of the one before."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from torch import nn

from optprune_fast.engine.batches import Data
from optprune_fast.engine.objective import UserObjective
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.ops.precision import DEFAULT
from optprune_fast.recipe.prepared import Prepared
from optprune_fast.recipe.result import FILE, Result
from optprune_fast.recipe.sweep_folder import claim, journal_in, rate_folder, written_sparsities
from optprune_fast.runtime.errors import message
from optprune_fast.search.strategy import Strategy
from optprune_fast.search.warm import warm_started

SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


@dataclass(frozen=True)
class Sweep:
    """Loss against sparsity.

    sparsities:  those that were asked for, ascending
    results:     one for each of them, ascending; fewer where the sweep was stopped
    """

    sparsities: tuple[float, ...]
    results: list[Result]

    @property
    def front(self) -> list[Result]:
        """The Pareto front, ascending: results than which no other is at least as sparse and better on the held-out
        part, or sparser and as good."""
        front: list[Result] = []
        for result in reversed(self.results):
            if not front or result.fitness < front[0].fitness:
                front.insert(0, result)
        return front

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write every result into `folder/<sparsity>` and the list of sparsities beside them; return the folder.

        Raises `ValueError` if the folder holds a sweep over other sparsities.
        """
        target = claim(folder, self.sparsities)
        for result in self.results:
            result.save(rate_folder(target, result.sparsity))
        return target

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> Sweep:
        """Read what `save` wrote, or as much as a `sweep` with this folder has done so far.

        Raises `FileNotFoundError`, or `IntegrityError` if a bit is not as it was written.
        """
        sparsities = written_sparsities(folder)
        if sparsities is None:
            raise FileNotFoundError(message("Sweep.load", "there is no sweep in this folder", folder=str(folder)))
        places = [rate_folder(folder, sparsity) / FILE for sparsity in sparsities]
        return Sweep(sparsities, [Result.load(place) for place in places if place.exists()])


def sweep(model: nn.Module, data: Data, sparsities: Sequence[float] = SPARSITIES, *, strategy: str | Strategy = "auto",
          small: float | None = None, pool: float | None = None, validation: Data | None = None,
          evaluations: int | None = None, time_limit: float | None = None, seed: int = 0,
          objective: str | UserObjective = "cross_entropy", backend: str = "auto", layout: MaskLayout | None = None,
          logit_scale: float | None = None, folder: str | os.PathLike[str] | None = None,
          progress: bool | None = None, precision: str = DEFAULT) -> Sweep:
    """Find masks for many sparsities, so that one can be chosen by what it costs.

    sparsities:   ascending, each in [0, 1)
    evaluations:  candidates to evaluate at each sparsity; under it alone, a seed gives the same masks bit for bit
    time_limit:   seconds for each sparsity; None is 60 where `evaluations` is not given, and no limit where it is
    folder:       where each result is saved as soon as it is there, with a journal: a sweep that was stopped, by Ctrl-C
                  or a kill, goes on when it is started again with the same arguments; under a limit of evaluations it
                  ends bit for bit like one never stopped
    returns:      `Sweep`

    The other arguments are those of `prune`. The first search starts from magnitude's mask. Each later one compares two
    starts on the calibration data, at the scale of logits of the search before, and takes the better: magnitude's mask,
    and the mask of the sparsity before without its smallest weights. Ctrl-C returns what there is, the search that it
    stopped included. Raises `ValueError` for wrong arguments before any work.

    >>> import torch
    >>> torch.manual_seed(0); model = nn.Linear(16, 4)  # doctest: +ELLIPSIS
    <torch...>
    >>> x = torch.randn(200, 16)
    >>> curve = sweep(model, (x, model(x).argmax(1)), (0.5, 0.75), evaluations=200)
    >>> [int(result.mask.count()) for result in curve.results]
    [32, 16]
    """
    rates = _ascending(sparsities)
    ready = Prepared.of(model, data, rates, strategy, small, pool, validation, evaluations, time_limit, seed,
                        objective, backend, layout, logit_scale, precision)
    place = None if folder is None else claim(folder, rates)
    results: list[Result] = []
    try:
        for sparsity in rates:
            problem = ready.problem(sparsity)
            if results:
                # At their own scale, small logits would speak against the mask that a search found at a larger one.
                seen = ready.calibration.scaled(results[-1].logit_scale)
                problem = replace(problem, start=warm_started(replace(problem, evaluator=seen), results[-1].mask).start)
            here = None if place is None else rate_folder(place, sparsity)
            # A strategy that has searched is no longer as it was set up.
            once = replace(ready, strategy=copy.deepcopy(ready.strategy))
            result = once.search(problem, sparsity, None if here is None else journal_in(here), progress,
                                 f"sweep, {100 * sparsity:g} %")
            results.append(result)
            if here is not None:
                result.save(here)
            if result.stopped_by == "interrupt":
                break
    except KeyboardInterrupt:  # between two searches
        if not results:
            raise
    return Sweep(rates, results)


def _ascending(sparsities: Sequence[float]) -> tuple[float, ...]:
    """As a tuple; each one's range is checked with the layout."""
    if isinstance(sparsities, (int, float)):
        raise TypeError(message("sweep", "sparsities must be a sequence", "opf.prune works for one sparsity",
                                sparsities=sparsities))
    rates = tuple(float(sparsity) for sparsity in sparsities)
    if not rates:
        raise ValueError(message("sweep", "there must be at least one sparsity", sparsities=rates))
    if any(not low < high for low, high in pairwise(rates)):
        raise ValueError(message("sweep", "sparsities must ascend, each once: every search starts from the one before",
                                 "sorted(set(sparsities))", sparsities=rates))
    return rates
