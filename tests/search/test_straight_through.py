"""Straight-through scores: one step against float64, the schedule of the mask that is trained, and what comes of it."""

import math

import pytest
import torch

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.search.latent import masks_of, open_weights, start_scores
from optprune_fast.search.straight_through import StraightThrough


def choices(strategy, problem, shares):
    strategy.start(problem)
    return [strategy._choices(share) for share in shares]


def test_the_trained_mask_narrows_along_a_cubic_to_the_budget(problem_of):
    problem = problem_of(0.9, small=1, pool=1)
    k, shares = problem.choices, [0, 0.1, 0.25, 0.4, 0.5, 0.75, 1]
    assert choices(StraightThrough(dense=3, narrow=0.5), problem, shares) == [
        k + int(2 * k * max(0.0, 1 - share / 0.5) ** 3) for share in shares]
    assert choices(StraightThrough(dense=1), problem, shares) == [k] * 7
    assert choices(StraightThrough(dense=3, narrow=0), problem, shares) == [k] * 7


@pytest.mark.parametrize(("small", "pool"), [(1, 1), (0.5, 0.05), (0.3, 1)])
def test_the_trained_mask_keeps_no_more_than_there_is(problem_of, small, pool):
    problem = problem_of(0.5, small=small, pool=pool)
    first, last = choices(StraightThrough(dense=100), problem, [0, 1])
    assert (first, last) == (len(open_weights(problem)), problem.choices)
    mask = masks_of(problem, open_weights(problem), start_scores(problem, open_weights(problem))[None], first)
    assert mask == problem.core | problem.open


@pytest.mark.parametrize("dense", [1, 5])
def test_two_steps_are_those_of_the_formula(problem_of, evaluator, dense):
    problem = problem_of(0.9, small=1, pool=1)
    strategy = StraightThrough(steps=4, batch=evaluator.samples, rate=0.2, decay=0.5, dense=dense, narrow=1)
    strategy.start(problem)
    places, scores = strategy.places, start_scores(problem, strategy.places).double()
    mean, square, everything = 0.0, 0.0, torch.arange(evaluator.samples)
    for step in (1, 2):
        done = (step - 1) / 4
        mask = masks_of(problem, places, strategy.scores[None], strategy._choices(done))
        gradients = evaluator.mean_gradients(mask, everything).values()
        slope = (torch.cat([g.flatten() for g in gradients]).double() * problem.weights.double())[places]
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope.square().mean()
        rate = 0.2 * (1 + math.cos(math.pi * done)) / 2
        change = mean / (1 - 0.9**step) / (square / (1 - 0.999**step)).sqrt()
        scores = scores * (1 - 0.5 * rate) - rate * change
        strategy._descend()
        torch.testing.assert_close(strategy.scores.double(), scores, rtol=1e-4, atol=1e-4)


def test_a_hundred_steps_find_what_is_worth_keeping(problem_of):
    """Steps as long for a score of little worth as for any other (Adam's) win less than a hundredth here."""
    problem = problem_of(0.9, small=1, pool=1)
    strategy = StraightThrough(steps=100, batch=32, leg=100)
    strategy.start(problem)
    first, last = strategy.ask(), strategy.ask()
    assert float(problem.evaluator(last)[0]) < 0.95 * float(problem.evaluator(first)[0])


def test_slopes_of_zero_leave_the_order_of_the_scores(network, problem_of):
    blank = Evaluator(network, (torch.zeros(8, 16), torch.zeros(8, dtype=torch.int64)), lambda out, _: 0 * out.sum(1))
    problem = problem_of(0.9, small=1, pool=1, evaluator=blank)
    strategy = StraightThrough(steps=3)
    strategy.start(problem)
    assert strategy.ask() == strategy.ask() == problem.magnitude
