"""The results of a report, checked and put in order."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from optprune_fast.recipe.result import Result
from optprune_fast.report.tables import label
from optprune_fast.runtime.errors import message


@dataclass(frozen=True)
class Run:
    """One result, and its number in the report, from 0: by sparsity, method and seed."""

    number: int
    result: Result

    @property
    def method(self) -> str:
        return label(self.result.strategy, self.result.small)


def in_order(results: Result | Iterable[Result]) -> list[Run]:
    """The runs of a report. They must be of one layout and one objective: other losses cannot be compared."""
    found = [results] if isinstance(results, Result) else list(results)
    if not found:
        raise ValueError(message("report", "needs at least one Result", "opf.prune gives one, Result.load reads one"))
    for result in found:
        if not isinstance(result, Result):
            raise TypeError(message("report", "results are Result objects, or one of them",
                                    "opf.Result.load(folder) reads a saved one", got=result))
    for what, values in (("layout", {result.layout.digest[:16] for result in found}),
                         ("objective", {result.objective for result in found})):
        if len(values) > 1:
            raise ValueError(message("report", f"all results must have one {what}", f"make one report for each {what}",
                                     **{f"{what}s": sorted(values)}))
    found.sort(key=lambda r: (r.sparsity, r.strategy, -r.small, r.seed))
    return [Run(number, result) for number, result in enumerate(found)]


def sparsities(runs: list[Run]) -> list[float]:
    return list(dict.fromkeys(run.result.sparsity for run in runs))


def shown(runs: list[Run], networks: Iterable[str]) -> Iterator[Run]:
    """One run a sparsity, for figures of a single network: of the best method, by the mean on the validation part.

    networks: digests of the networks whose weights are there; a run of one of them is preferred
    """
    there = set(networks)
    for rate in sparsities(runs):
        groups: dict[str, list[Run]] = {}
        for run in runs:
            if run.result.sparsity == rate:
                groups.setdefault(run.method, []).append(run)
        best = min(groups.values(), key=lambda group: statistics.fmean(run.result.fitness for run in group))
        yield min(best, key=lambda run: (run.result.base_digest not in there, run.number))
