"""Levels: how many weights each layer keeps is searched, the largest of each layer stay."""

import pytest
import torch

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.budgets import SCHEMES, kept_by_layer
from optprune_fast.masks.ranking import layer_ranks, ranked_masks, start_mask
from optprune_fast.models import MLP
from optprune_fast.search.levels import Levels
from optprune_fast.search.problem import Problem


@pytest.fixture(scope="module")
def bottleneck():
    """Four layers, of which the second has weights a hundredth of the third's: magnitude pruning starves it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = MLP([16, 20, 12, 20, 4]).eval()
    inputs = torch.randn(200, 16, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        for layer, factor in enumerate((2, 0.2, 20, 2)):
            network.layers[layer].weight *= factor
        network.layers[1].bias *= 0.2
        return Evaluator(network, (inputs, network(inputs).argmax(1)))


def rounds(strategy, problem, number):
    """(masks, fitness) of each round until `number` or the end of the strategy."""
    strategy.start(problem)
    for _ in range(number):
        masks = strategy.ask()
        if masks is None:
            return
        fitness = problem.evaluator(masks)
        yield masks, fitness
        strategy.tell(fitness)


def test_levels_beat_every_start_where_one_layer_is_a_bottleneck(bottleneck):
    problem = Problem.of(bottleneck, 0.6, 1, 1, seed=0)
    told = [fitness for _, fitness in rounds(Levels(), problem, 20)]
    starts, best = told[0], float(torch.cat(told).min())
    assert len(starts) == len(SCHEMES)
    assert best < 0.8 * float(starts[0])  # magnitude
    assert best < 0.95 * float(starts.min())


def test_the_schemes_are_asked_for_first_under_the_core_and_the_pool(bottleneck):
    problem = Problem.of(bottleneck, 0.7, 0.6, 0.3, seed=0)
    masks, _ = next(rounds(Levels(), problem, 1))
    weights = bottleneck.weights
    expected = [start_mask(problem.layout, weights, problem.budget, problem.core, scheme, within=problem.open)
                for scheme in SCHEMES]
    assert masks[0] == problem.magnitude
    assert {tuple(mask.words[0].tolist()) for mask in masks} == {tuple(mask.words[0].tolist()) for mask in expected}


@pytest.mark.parametrize(("small", "pool"), [(1, 1), (0.6, 0.3), (0.3, 0.2)])
def test_every_mask_keeps_budget_and_core_and_the_largest_open_weights_of_each_layer(bottleneck, small, pool):
    problem = Problem.of(bottleneck, 0.7, small, pool, seed=1)
    ranks = layer_ranks(problem.layout, bottleneck.weights, core=problem.core, within=problem.open)
    seen = 0
    for masks, _ in rounds(Levels(), problem, 12):
        assert masks.count().tolist() == [problem.budget] * len(masks)
        assert masks.overlap(problem.core).tolist() == [int(problem.core.count())] * len(masks)
        assert not (masks.words & ~(problem.core | problem.open).words).any()
        assert masks == ranked_masks(problem.layout, ranks, kept_by_layer(masks))
        seen += len(masks)
    assert seen > 100


def test_no_mask_is_asked_for_twice_and_the_parent_is_the_best(bottleneck):
    problem, strategy = Problem.of(bottleneck, 0.8, 1, 1, seed=2), Levels()
    seen, best = set(), float("inf")
    for masks, fitness in rounds(strategy, problem, 15):
        rows = {tuple(row) for row in kept_by_layer(masks).tolist()}
        assert len(rows) == len(masks)
        assert not rows & seen
        seen |= rows
        if best < float("inf"):
            assert strategy.loss == best == float(problem.evaluator(ranked_masks(
                problem.layout, strategy.ranks, strategy.parent.reshape(1, -1)))[0])
        best = min(best, float(fitness.min()))
    assert len(seen) > 200


def test_where_two_layers_leave_few_levels_all_are_asked_for(problem_of):
    problem = problem_of(0.9, small=0.2, pool=1)  # 9 weights to choose, so the first layer has one of 10 levels
    masks = [masks for masks, _ in rounds(Levels(), problem, 50)]
    assert len(masks) < 50
    levels = [count for row in masks for count, _ in kept_by_layer(row).tolist()]
    held = int(kept_by_layer(problem.core)[0, 0])
    assert sorted(levels) == list(range(held, held + 10))


def test_a_nan_first_generation_does_not_stop_the_search(bottleneck):
    problem, strategy = Problem.of(bottleneck, 0.8, 1, 1, seed=0), Levels()
    strategy.start(problem)
    first = strategy.ask()
    strategy.tell(torch.full((len(first),), float("inf")))
    second = strategy.ask()
    assert second.count().tolist() == [problem.budget] * len(second)
    strategy.tell(problem.evaluator(second))
    assert strategy.loss == float(problem.evaluator(second).min())


def test_a_seed_repeats_every_question_and_another_asks_others(bottleneck):
    def questions(seed):
        problem = Problem.of(bottleneck, 0.8, 1, 1, seed=seed)
        return torch.cat([masks.words for masks, _ in rounds(Levels(), problem, 6)])

    first = questions(0)
    assert torch.equal(first, questions(0))
    assert not torch.equal(first, questions(1))


def test_a_start_of_the_callers_own_is_asked_for_before_the_schemes(bottleneck):
    plain = Problem.of(bottleneck, 0.7, 1, 1, seed=0)
    ranks = layer_ranks(plain.layout, bottleneck.weights)
    counts = kept_by_layer(plain.magnitude) + torch.tensor([[-3, 3, 0, 0]])
    own = Problem.of(bottleneck, 0.7, 1, 1, seed=0, start=ranked_masks(plain.layout, ranks, counts))
    masks, _ = next(rounds(Levels(), own, 1))
    assert masks[0] == own.start
    assert len(masks) == len(SCHEMES) + 1
