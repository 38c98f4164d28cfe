"""`prune_and_refit` ends at the exact budget, whatever stops it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import optprune_fast as opf
from optprune_fast.recipe import prune_and_refit as module
from optprune_fast.recipe.prune_and_refit import prune_and_refit
from optprune_fast.runtime.errors import EvaluationWarning, TuningWarning
from optprune_fast.tuning.prune_step import prune_step
from optprune_fast.tuning.support import Support


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

    with pytest.warns(TuningWarning, match=r"prune_and_refit: a gradient or step is not finite.*prunes by size"):
        model, mask = prune_and_refit(network, samples, 0.9, refreshes=3, objective=steep)
    assert torch.equal(mask.words, opf.magnitude(network, 0.9).mask.words)
    assert kept(model, mask) == mask.layout.budget(0.9)


@pytest.mark.parametrize(("changed", "text"), [
    ({"refreshes": 0}, "samples, refreshes and steps must be at least 1"),
    ({"damping": -1.0}, "damping must be at least 0"),
    ({"damping": None}, "damping must be a number"),
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


@pytest.mark.parametrize("given", [{"objective": "mse_to_dense"}, {"objective": "kl_to_dense"}, {"distill": 1.0}])
def test_beside_itself_a_network_is_pruned_by_size_at_first(network, samples, given):
    """The loss and its slopes are zero there, and rounding must not choose."""
    model, mask = prune_and_refit(network, samples, 0.5, refreshes=3, ramp=0.3, noise=0.0, **given)
    assert torch.equal(mask.words, opf.magnitude(network, 0.5).mask.words)
    old = Support("", network, mask).model
    with torch.no_grad():
        wanted = network(samples[0]).softmax(1)
        far = [float(F.kl_div(net(samples[0]).log_softmax(1), wanted, reduction="batchmean")) for net in (model, old)]
    assert far[0] < 0.7 * far[1]


def test_what_nothing_depends_on_does_no_harm(network, samples):
    inputs = samples[0].clone()
    inputs[:, 3] = 0.0
    model, mask = prune_and_refit(network, (inputs, samples[1]), 0.8, refreshes=4, noise=0.0, damping=0.0)
    assert kept(model, mask) == mask.layout.budget(0.8)
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_floats(network, samples, dtype):
    narrow = copy.deepcopy(network).to(dtype)
    model, mask = prune_and_refit(narrow, (samples[0].to(dtype), samples[1]), 0.9, refreshes=4)
    assert kept(model, mask) == mask.layout.budget(0.9)


class Attends(nn.Module):
    """Attention, which has no derivative forwards where it is fused, and a branch that vmap cannot take."""

    def __init__(self):
        super().__init__()
        self.inside, self.last = nn.Linear(4, 12), nn.Linear(16, 4)

    def forward(self, x):
        q, k, v = self.inside(x.unflatten(1, (4, 4))).chunk(3, dim=2)
        mixed = F.scaled_dot_product_attention(q, k, v).flatten(1)
        return self.last(mixed if float(mixed.detach().abs().max()) < 1e6 else mixed / 2)


def test_attention_and_branches(samples):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Attends().eval()
    with pytest.warns(EvaluationWarning, match="vmap cannot run this model"):
        model, mask = prune_and_refit(net, samples, 0.5, refreshes=3)
    assert kept(model, mask) == mask.layout.budget(0.5)
