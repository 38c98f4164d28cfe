"""Core, pool and budget are what docs/DESIGN.md says, to the weight."""

import math

import pytest
import torch

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.magnitude import magnitude
from optprune_fast.masks.operators import random_masks
from optprune_fast.search.problem import Problem

N = 16 * 24 + 24 * 4
SHARES = [0.0, 0.1, 1 / 3, 0.5, 0.99, 1.0]


@pytest.fixture
def rank(network):
    """bool [n] of the weights whose rank by magnitude lies in [start, stop), largest first."""
    weights = torch.cat([w.detach().flatten() for w in (network.layers[0].weight, network.layers[1].weight)])
    order = weights.abs().argsort(descending=True, stable=True)

    def between(start, stop):
        chosen = torch.zeros(N, dtype=torch.bool)
        chosen[order[start:stop]] = True
        return chosen

    return between


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("small", SHARES)
def test_the_core_is_the_largest_weights_less_what_small_sets_free(problem_of, rank, sparsity, small):
    problem = problem_of(sparsity, small=small)
    k = N - round(sparsity * N)
    assert problem.budget == k
    assert torch.equal(problem.core.flat()[0], rank(0, k - math.floor(small * k)))
    assert problem.choices == math.floor(small * k)


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
@pytest.mark.parametrize("pool", [0.0, 1 / N, 0.1, 0.123, 0.5])
def test_the_pool_is_exactly_the_weights_that_follow_rank_k(problem_of, rank, sparsity, pool):
    problem = problem_of(sparsity, pool=pool)
    k, m = problem.budget, round(pool * N)
    assert torch.equal(problem.pool.flat()[0], rank(k, k + m))
    assert int(problem.pool.count()) == m


def test_a_pool_larger_than_what_is_pruned_is_all_of_it(problem_of, rank):
    problem = problem_of(0.5, pool=0.8)
    assert torch.equal(problem.pool.flat()[0], rank(N // 2, N))


@pytest.mark.parametrize("small", SHARES)
@pytest.mark.parametrize("pool", [0.0, 0.2, 1.0])
def test_open_is_the_magnitude_mask_without_the_core_and_the_pool(problem_of, rank, small, pool):
    problem = problem_of(0.9, small=small, pool=pool)
    k = problem.budget
    assert torch.equal(problem.open.flat()[0], rank(k - math.floor(small * k), k + min(round(pool * N), N - k)))
    assert int(problem.open.overlap(problem.core)) == 0


def test_small_one_and_pool_one_leave_every_weight_open(problem_of):
    problem = problem_of(0.9, small=1, pool=1)
    assert int(problem.open.count()) == N
    assert int(problem.core.count()) == 0
    assert not problem.fixed


def test_small_zero_is_magnitude_pruning(problem_of, network):
    problem = problem_of(0.9, small=0, pool=1)
    assert problem.fixed
    assert problem.core == problem.magnitude == magnitude(network, 0.9).mask


def test_without_a_pool_there_is_nothing_to_choose(problem_of):
    assert problem_of(0.9, small=1, pool=0).fixed


def test_at_sparsity_zero_there_is_nothing_to_choose(problem_of):
    assert problem_of(0.0, small=1, pool=1).fixed


@pytest.mark.parametrize(("arguments", "text"), [
    ({"small": -0.1}, r"small must lie in \[0, 1\]"),
    ({"small": 1.1}, r"small must lie in \[0, 1\]"),
    ({"small": math.nan}, r"small must lie in \[0, 1\]"),
    ({"pool": -0.1}, r"pool must lie in \[0, 1\]"),
    ({"pool": 1.1}, r"pool must lie in \[0, 1\]"),
    ({"sparsity": 1.0}, r"sparsity must lie in \[0, 1\)"),
    ({"sparsity": -0.1}, r"sparsity must lie in \[0, 1\)"),
    ({"sparsity": 0.9999}, f"no weight of {N} would be kept"),
])
def test_what_cannot_be_reached_is_an_error(problem_of, arguments, text):
    with pytest.raises(ValueError, match=text):
        problem_of(**arguments)


# ---- where a search starts


@pytest.mark.parametrize("scheme", ["uniform", "erk", "lamp"])
def test_a_search_may_start_from_a_scheme_of_layer_budgets(problem_of, evaluator, scheme):
    started = Problem.of(evaluator, 0.9, 0.5, 1.0, 0, scheme)
    assert started.start != started.magnitude
    assert int(started.start.count()) == started.budget
    assert int(started.start.overlap(started.core)) == int(started.core.count())


def test_a_search_may_start_from_a_mask_that_keeps_the_rules(problem_of, evaluator):
    own = random_masks(evaluator.layout, problem_of().budget, [3])
    assert Problem.of(evaluator, 0.9, 1.0, 1.0, 0, own).start == own


@pytest.mark.parametrize(("change", "text"), [
    (lambda p: random_masks(p.layout, p.budget + 1, [3], core=p.core), "exactly the budget, and the core"),
    (lambda p: random_masks(p.layout, p.budget, [3], within=~p.core), "exactly the budget, and the core"),
    (lambda p: random_masks(p.layout, p.budget, [3], core=p.core, within=~(p.open | p.core)), "may be chosen"),
    (lambda p: random_masks(p.layout, p.budget, [3, 4], core=p.core), "one mask of the model's layout"),
    (lambda p: random_masks(MaskLayout.from_shapes({"w": (90, 90)}), p.budget, [3]), "one mask of the model's layout"),
])
def test_a_start_that_breaks_a_rule_is_an_error(problem_of, evaluator, change, text):
    with pytest.raises(ValueError, match=text):
        Problem.of(evaluator, 0.9, 0.5, 0.02, 0, change(problem_of(0.9, 0.5, 0.02)))


# ---- parts of the data


def test_parts_are_seeded_cover_the_data_once_and_are_kept(problem_of, evaluator):
    problem = problem_of(seed=5)
    parts = [problem.part(40, number) for number in range(3)]
    assert [part.samples for part in parts] == [50, 50, 50]
    masks = random_masks(problem.layout, problem.budget, [1, 2])
    assert torch.allclose(torch.stack([part(masks) for part in parts]).mean(0), evaluator(masks), rtol=1e-6)
    assert problem.part(40, 3) is parts[0]
    assert torch.equal(problem_of(seed=5).part(40, 0)(masks), parts[0](masks))
    assert problem.part(76, 0) is problem.part(76, 1) is evaluator


def test_screening_keeps_the_best_of_a_part_and_is_counted(problem_of):
    problem = problem_of(small=1, pool=1)
    moves = torch.stack([problem.magnitude.indices()[:20], problem.pool.indices()[:20]], dim=1)
    part = problem.part(40, 1)
    best = moves[part.moves(problem.magnitude, moves).argsort(stable=True)[:5]]
    assert torch.equal(problem.screen(problem.magnitude, moves, 4, 40, 5), best)
    assert problem.work.screened == pytest.approx(20 / 3)
    assert torch.equal(problem.screen(problem.magnitude, moves, 4, 40, 30), moves)
