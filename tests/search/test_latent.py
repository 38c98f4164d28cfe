"""Latent scores: the top ones are kept, exactly to the budget, on any layout."""

import dataclasses

import pytest
import torch
from torch import nn

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.operators import random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.search.latent import chosen, magnitude_scores, masks_of, open_weights, start_scores
from optprune_fast.search.problem import Problem

INF = float("inf")


class Odd(nn.Module):
    """Rows of 1, 65 and 130 bits, and filters of 27."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(5, 65), nn.ReLU(), nn.Linear(65, 130),
                                    nn.ReLU(), nn.Linear(130, 1), nn.Linear(1, 3))

    def forward(self, x):
        return self.layers(x)


@pytest.fixture(scope="module")
def odd():
    torch.manual_seed(0)
    return Evaluator(Odd(), (torch.randn(2, 3, 3, 3), torch.tensor([0, 1])))


def masks_by_sorting(problem, scores):
    """The same by Python's own sort."""
    weights = open_weights(problem).tolist()
    core = problem.core.indices().tolist()
    masks = []
    for row in scores.tolist():
        ranked = sorted(range(len(weights)), key=lambda i: (-row[i], i))
        kept = core + [weights[i] for i in ranked[:problem.choices]]
        masks.append(PackedMasks.from_indices(problem.layout, torch.tensor(kept)))
    return PackedMasks.cat(masks)


@pytest.mark.parametrize(("small", "pool"), [(1, 1), (0.5, 0.3), (0.1, 1), (0.3, 0.001), (0, 0.5), (1, 0)])
@pytest.mark.parametrize("sparsity", [0.5, 0.97])
def test_a_mask_keeps_the_core_and_the_top_scores_whatever_the_layout(odd, sparsity, small, pool):
    problem = Problem.of(odd, sparsity, small, pool, seed=0)
    weights = open_weights(problem)
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(5, len(weights), generator=generator)
    scores[1] = scores[1].round()  # many ties
    scores[2] = 0
    masks = masks_of(problem, weights, scores)
    assert masks == masks_by_sorting(problem, scores)
    assert masks.count().tolist() == [problem.budget] * 5


def test_infinite_scores_rank_like_any_number():
    scores = torch.tensor([[-INF, 1, INF, INF, -INF], [-INF, -INF, -INF, -INF, 2]])
    assert chosen(scores, 2).nonzero()[:, 1].tolist() == [2, 3, 0, 4]


def test_scores_that_are_nan_are_an_error(problem_of):
    problem = problem_of()
    weights = open_weights(problem)
    with pytest.raises(ValueError, match="latent scores: scores must not be NaN"):
        masks_of(problem, weights, torch.full((1, len(weights)), torch.nan))


def test_scores_of_another_number_of_weights_are_an_error(problem_of):
    problem = problem_of()
    weights = open_weights(problem)
    with pytest.raises(ValueError, match=rf"latent scores: scores must be \[P, {len(weights)}\]"):
        masks_of(problem, weights, torch.zeros(2, len(weights) - 1))


@pytest.mark.parametrize(("small", "pool"), [(1, 1), (0.5, 0.3), (0, 0)])
def test_magnitude_scores_make_the_magnitude_mask(odd, small, pool):
    problem = Problem.of(odd, 0.9, small, pool, seed=0)
    weights = open_weights(problem)
    assert masks_of(problem, weights, magnitude_scores(problem, weights)[None]) == problem.magnitude


def test_magnitude_scores_lose_no_order_among_neighbouring_floats():
    """A division by the deviation would round neighbours to one score, and ties are decided by index."""
    layer = nn.Linear(64, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_((1.75 + torch.arange(64) * 2.0 ** -23)[None])
    problem = Problem.of(Evaluator(layer, (torch.zeros(1, 64), torch.tensor([0]))), 0.5, 1, 1, seed=0)
    scores = magnitude_scores(problem, open_weights(problem))
    assert len(scores.unique()) == 64
    assert masks_of(problem, open_weights(problem), scores[None]) == problem.magnitude


def test_magnitude_scores_have_a_deviation_of_about_one(odd):
    problem = Problem.of(odd, 0.9, 1, 1, seed=0)
    assert 0.7 < float(magnitude_scores(problem, open_weights(problem)).std()) < 1.42


def test_equal_weights_have_finite_scores():
    layer = nn.Linear(8, 1, bias=False)
    nn.init.constant_(layer.weight, 0.5)
    problem = Problem.of(Evaluator(layer, (torch.zeros(1, 8), torch.tensor([0]))), 0.5, 1, 1, seed=0)
    assert magnitude_scores(problem, open_weights(problem)).tolist() == [0.5] * 8


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("small", "pool"), [(1, 1), (0.5, 0.3)])
def test_start_scores_make_the_mask_that_the_search_starts_from(odd, small, pool, flat):
    problem = Problem.of(odd, 0.9, small, pool, seed=0)
    if flat:  # all weights are equal, so that sizes say nothing about a start
        layer = nn.Linear(64, 1, bias=False)
        nn.init.constant_(layer.weight, 0.5)
        problem = Problem.of(Evaluator(layer, (torch.zeros(1, 64), torch.tensor([0]))), 0.5, small, pool, seed=0)
    start = random_masks(problem.layout, problem.budget, [5], core=problem.core, within=problem.open)
    problem = dataclasses.replace(problem, start=start)
    assert start != problem.magnitude
    weights = open_weights(problem)
    assert masks_of(problem, weights, start_scores(problem, weights)[None]) == start
