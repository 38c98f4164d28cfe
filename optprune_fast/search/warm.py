"""A search started from the mask that was found at a lower sparsity."""

from __future__ import annotations

from dataclasses import replace

import torch

from optprune_fast.masks.packed import PackedMasks
from optprune_fast.search.problem import Problem


def warm_started(problem: Problem, known: PackedMasks) -> Problem:
    """The problem, started from `known` cut to its budget if that is better on the calibration data than its start.

    known:  one mask of the layout, of any budget
    """
    cut = cut_to(problem, known)
    fitness = problem.evaluator(PackedMasks.cat([problem.start, cut])).nan_to_num(torch.inf)
    problem.work.screened += 2.0
    return replace(problem, start=cut) if float(fitness[1]) < float(fitness[0]) else problem


def cut_to(problem: Problem, known: PackedMasks) -> PackedMasks:
    """The core, then the largest of the open weights that `known` keeps, then the largest of the other open ones.

    Measured against cuts by second-order scores, at once and in rounds: docs/RESULTS.md, warm starts.
    """
    size = problem.weights.double().abs()
    order = size.argsort(descending=True, stable=True)
    for flags in (known.flat()[0], problem.is_open):  # stable sorts: the last decides first
        order = order[flags[order].byte().argsort(descending=True, stable=True)]
    return PackedMasks.from_indices(problem.layout, order[: problem.choices].sort().values) | problem.core
