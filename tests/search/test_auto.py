"""What "auto" is: by what an evaluator has to do."""

import pytest
import torch
from torch import nn

from optprune_fast import search
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.models import MLP
from optprune_fast.search import auto


def names(strategy):
    return [stage.name for stage, _ in strategy.stages]


def test_swaps_where_they_can_be_afforded_and_scores_alone_where_not(evaluator, monkeypatch):
    assert names(auto()) == names(auto(evaluator)) == ["straight_through", "swap", "annealing"]
    monkeypatch.setattr(search, "SWAPS_UP_TO", evaluator.samples * evaluator.multiply_adds)
    assert len(names(auto(evaluator))) == 3
    monkeypatch.setattr(search, "SWAPS_UP_TO", evaluator.samples * evaluator.multiply_adds - 1)
    assert names(auto(evaluator)) == ["straight_through"]
    assert auto(evaluator).name == "auto"


def test_swaps_last_to_the_end_of_a_short_time_limit(evaluator):
    ends = {seconds: auto(evaluator, seconds).stages[1][1] for seconds in (None, 1.0, 29.9, 30.0, 600.0)}
    assert ends == {None: 0.8, 1.0: 1.0, 29.9: 1.0, 30.0: 0.5, 600.0: 0.5}


def test_an_objective_without_gradients_has_the_genetic_algorithm(network, samples):
    assert auto(Evaluator(network, samples, lambda outputs, targets: outputs.max())).name == "genetic"


@pytest.mark.parametrize(("model", "shape", "expected"), [
    (MLP([16, 24, 4]), (16,), 16 * 24 + 24 * 4), (nn.Linear(3, 5), (7, 3), 7 * 3 * 5),
    (nn.Conv2d(2, 3, 3, padding=1), (2, 6, 5), 6 * 5 * 2 * 3 * 9)])
def test_multiply_adds_of_a_sample(model, shape, expected):
    assert Evaluator(model, (torch.randn(4, *shape), None), lambda outputs, _: outputs.flatten(1).sum(1),
                     backend="torch").multiply_adds == expected
