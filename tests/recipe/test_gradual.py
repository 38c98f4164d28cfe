"""`gradual` ends at the exact budget, whatever stops it."""

import copy
import itertools

import pytest
import torch
from torch import nn

import optprune_fast as opf
from optprune_fast.recipe import gradual as module
from optprune_fast.recipe.gradual import gradual
from optprune_fast.runtime.errors import TuningWarning
from optprune_fast.tuning.support import Support


def kept(model, mask):
    weights = mask.layout.weights_of(model)
    dense = mask.to_dense()
    assert all(not weights[name][~dense[name][0]].any() for name in weights)
    return int(mask.count())


@pytest.mark.parametrize("strategy", [None, "genetic"])
def test_it_ends_at_the_budget_and_learns(network, samples, strategy):
    before, budget = copy.deepcopy(network.state_dict()), opf.MaskLayout.of(network).budget(0.9)
    tuned, mask = gradual(network, samples, 0.9, 4, lr=1e-2, batch_size=20, strategy=strategy, evaluations=70)
    assert kept(tuned, mask) == budget
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    start = Support("", network, opf.magnitude(network, 0.9).mask).model
    new, old = (nn.functional.cross_entropy(model(samples[0]), samples[1]).item() for model in (tuned, start))
    assert new < old
    again, mask_again = gradual(network, samples, 0.9, 4, lr=1e-2, batch_size=20, strategy=strategy, evaluations=70)
    assert torch.equal(mask.words, mask_again.words)
    assert all(torch.equal(a, b) for a, b in zip(tuned.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("ranking", ["sensitivity", "magnitude"])
def test_a_large_weight_that_nothing_depends_on(ranking):
    """Size alone keeps it; sensitivity prunes it, though in the first layer it is the largest of all."""
    made = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 6, generator=made)
    inputs[:, 5] = 0.0
    model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Tanh(), nn.Linear(5, 2, bias=False))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=made))
        model[0].weight[:, 5] = 3.0
    tuned, _ = gradual(model, (inputs, inputs[:, 0].gt(0).long()), 0.7, 4, batch_size=20, ranking=ranking)
    assert int(tuned[0].weight[:, 5].count_nonzero()) == (5 if ranking == "magnitude" else 0)


def test_sensitivity_is_size_by_the_fourth_root_of_squared_slopes(network):
    support = Support("", network, opf.PackedMasks.full(opf.MaskLayout.of(network)))
    slopes, made = module._Slopes(support), torch.Generator().manual_seed(1)
    weights = {name: weight.detach() for name, weight in support.weights.items()}
    assert all(slopes.ranked(weights)[name] is weight for name, weight in weights.items())  # before the first step
    first, *rest = weights
    mean = 0.0
    for step in range(3):
        slope = torch.randn(weights[first].shape, generator=made)
        mean = slope.square() if not step else 0.99 * mean + 0.01 * slope.square()
        support.weights[first].grad = slope
        slopes.note()
    support.weights[first].grad = torch.full_like(weights[first], torch.inf)
    slopes.note()  # that step is left out
    ranked = slopes.ranked(weights)
    torch.testing.assert_close(ranked[first], weights[first] * mean.clamp_min(1e-8 * mean.max()) ** 0.25)
    for name in rest:  # not trained
        torch.testing.assert_close(ranked[name], weights[name] * mean.mean() ** 0.25)


@pytest.mark.parametrize("ranking", ["sensitivity", "magnitude"])
def test_a_slope_that_is_no_number_ends_at_the_budget(network, samples, ranking):
    def objective(outputs, targets):
        return (outputs - outputs.detach()).abs().sqrt().sum(1)

    with pytest.warns(TuningWarning, match="the loss became nan"):
        tuned, mask = gradual(network, samples, 0.9, 10, batch_size=20, objective=objective, ranking=ranking)
    assert kept(tuned, mask) == mask.layout.budget(0.9)


def test_sparsity_rises_by_the_cubic_schedule(network, samples, monkeypatch):
    budgets = []
    real = module.select

    def select(layout, weights, budget, pool):
        budgets.append(budget)
        return real(layout, weights, budget, pool)

    monkeypatch.setattr(module, "select", select)
    monkeypatch.setattr(module, "STAGES", 4)
    layout = opf.MaskLayout.of(network)
    gradual(network, samples, 0.8, 2, batch_size=10)
    assert budgets == [layout.budget(0.8 * (1 - (1 - t) ** 3)) for t in (0.25, 0.5, 0.75, 1.0)]


@pytest.mark.parametrize("after", [0, 12, 40])
def test_ctrl_c_ends_at_the_budget(network, samples, after):
    """Before a step, on the way, and at the budget: 9 steps an epoch, two calls an epoch to judge."""
    calls = itertools.count(-2)  # two to look at the objective

    def objective(outputs, targets):
        if next(calls) > after:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    tuned, mask = gradual(network, samples, 0.9, 1000 if after > 30 else 10, batch_size=20, objective=objective)
    assert kept(tuned, mask) == mask.layout.budget(0.9)


@pytest.mark.parametrize(("changed", "text"), [
    ({"ramp": 0.0}, "ramp must lie above 0 and below 1"),
    ({"ramp": 1.0}, "ramp must lie above 0 and below 1"),
    ({"epochs": 0}, "gradual: epochs and batch_size must be at least 1"),
    ({"sparsity": 1.0}, r"sparsity must lie in \[0, 1\)"),
    ({"strategy": "wish"}, "wish"),
    ({"ranking": "wish"}, "ranking must be one of sensitivity, magnitude"),
])
def test_wrong_arguments(network, samples, changed, text):
    with pytest.raises(ValueError, match=text):
        gradual(network, samples, **changed)
