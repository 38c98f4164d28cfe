"""A search started from the mask of a lower sparsity."""

from dataclasses import replace

import pytest
import torch

from optprune_fast.masks.packed import PackedMasks
from optprune_fast.search import strategy_named
from optprune_fast.search.problem import Problem, check_start
from optprune_fast.search.run import Limits, run
from optprune_fast.search.warm import cut_to, warm_started

EVALUATIONS = 150


def found_at(evaluator, validation, sparsity, seed):
    problem = Problem.of(evaluator, sparsity, 1, 1, seed)
    return run(problem, strategy_named("swap"), validation, Limits(EVALUATIONS), progress=False).mask


@pytest.mark.parametrize(("small", "pool"), [(1, 1), (0.5, 1), (0.5, 0.05), (0, 0)])
def test_a_cut_keeps_budget_and_core_and_first_the_largest_that_were_kept(evaluator, validation, small, pool):
    known = found_at(evaluator, validation, 0.7, 0)
    problem = Problem.of(evaluator, 0.9, small, pool, 0)
    cut = cut_to(problem, known)
    check_start(replace(problem, start=cut))
    free = cut.flat()[0] & problem.is_open
    was_kept, size = known.flat()[0] & problem.is_open, problem.weights.abs()
    wanted = min(problem.choices, int(was_kept.sum()))
    expected = set(torch.where(was_kept, size, -1).topk(wanted).indices.tolist())
    assert expected <= set(free.nonzero().flatten().tolist())


def test_the_better_of_both_starts_is_taken_and_counted(evaluator, validation):
    problem = Problem.of(evaluator, 0.9, 1, 1, 0)
    good = found_at(evaluator, validation, 0.9, 0)
    smallest = PackedMasks.from_indices(problem.layout, problem.weights.abs().argsort()[: problem.budget].sort().values)
    assert warm_started(problem, good).start == good
    assert problem.work.screened == 2.0
    assert warm_started(problem, smallest).start == problem.magnitude


@pytest.mark.parametrize("seed", range(4))
def test_from_the_warm_start_the_search_ends_no_worse_on_the_data_that_it_sees(evaluator, validation, seed):
    cold = Problem.of(evaluator, 0.95, 1, 1, seed)
    warm = warm_started(cold, found_at(evaluator, validation, 0.9, seed))
    assert warm.start != cold.start
    ends = [run(problem, strategy_named("swap"), validation, Limits(EVALUATIONS), progress=False).best
            for problem in (cold, warm)]
    assert ends[1] <= ends[0]
