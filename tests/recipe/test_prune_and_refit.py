"""`prune_and_refit` ends at the exact budget, whatever stops it."""

import copy

import pytest
import torch
import torch.nn.functional as F

import optprune_fast as opf
from optprune_fast.recipe import prune_and_refit as module
from optprune_fast.recipe.prune_and_refit import prune_and_refit
from optprune_fast.runtime.errors import TuningWarning
from optprune_fast.tuning.prune_step import prune_step


def kept(model, mask):
    weights, dense = mask.layout.weights_of(model), mask.to_dense()
    assert all(not weights[name][~dense[name][0]].any() for name in weights)
    return int(mask.count())


def test_it_ends_at_the_budget_beats_refitting_a_mask_and_repeats(network, samples):
    before, budget = copy.deepcopy(network.state_dict()), opf.MaskLayout.of(network).budget(0.9)
    model, mask = prune_and_refit(network, samples, 0.9, refreshes=6, validation=samples)
    assert kept(model, mask) == budget
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    fixed = opf.refit(network, opf.magnitude(network, 0.9).mask, samples, method="gauss_newton", refreshes=6,
                      validation=samples)
    new, old = (F.cross_entropy(pruned(samples[0]), samples[1]).item() for pruned in (model, fixed))
    assert new < old
    again, mask_again = prune_and_refit(network, samples, 0.9, refreshes=6, validation=samples)
    assert torch.equal(mask.words, mask_again.words)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("at", [0, 2])
def test_ctrl_c_keeps_the_budget(network, samples, monkeypatch, at):
    calls = []

    def interrupted(*arguments):
        calls.append(None)
        if len(calls) > at:
            raise KeyboardInterrupt
        return prune_step(*arguments)

    monkeypatch.setattr(module, "prune_step", interrupted)
    model, mask = prune_and_refit(network, samples, 0.9, refreshes=6)
    assert kept(model, mask) == mask.layout.budget(0.9)


def test_a_gradient_that_is_no_number_stops_it_and_is_said(network, samples):
    def steep(outputs, targets):
        return (outputs - outputs.detach()).abs().sqrt().sum(1)

    with pytest.warns(TuningWarning, match=r"prune_and_refit: the gradient is not finite.*prunes by size"):
        model, mask = prune_and_refit(network, samples, 0.9, refreshes=3, objective=steep)
    assert torch.equal(mask.words, opf.magnitude(network, 0.9).mask.words)
    assert kept(model, mask) == mask.layout.budget(0.9)


@pytest.mark.parametrize(("changed", "text"), [
    ({"refreshes": 0}, "samples, refreshes and steps must be at least 1"),
    ({"damping": -1.0}, "damping must be at least 0"),
    ({"noise": float("nan")}, "noise must be at least 0"),
    ({"distill": 1.5}, r"distill must lie in \[0, 1\]"),
    ({"distill": 0.5, "objective": "kl_to_dense"}, "distill=0 takes any objective"),
    ({"ramp": 0.0}, "ramp must lie above 0"),
    ({"sparsity": 1.5}, "sparsity"),
    ({"objective": F.cross_entropy}, "one number a sample"),
])
def test_wrong_arguments(network, samples, changed, text):
    with pytest.raises(ValueError, match=text):
        prune_and_refit(network, samples, **changed)
