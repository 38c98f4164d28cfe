"""The scale that a search gives logits."""

import pytest
import torch
from torch import nn

import optprune_fast as opf
from optprune_fast.recipe.sweep import sweep
from optprune_fast.search.logit_scale import MOST, logit_scale


class Small(nn.Module):
    """Logits of which pruning half leaves a given share."""

    def __init__(self, share):
        super().__init__()
        self.last = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.last.weight.copy_(torch.tensor([[1.0, 1.0 / share - 1.0], [0.0, 0.0]]))

    def forward(self, x):
        return self.last(x)


def scale_of(share):
    model = Small(share)
    column = torch.randn(300, 1, generator=torch.Generator().manual_seed(0))
    ev = opf.Evaluator(model, (column.expand(-1, 2).contiguous(), torch.zeros(300, dtype=torch.int64)))
    kept = torch.tensor([[[True, False], [False, False]]])
    return logit_scale(ev, opf.PackedMasks.from_dense(ev.layout, {"last.weight": kept}))


def test_it_is_the_square_of_how_far_logits_shrink():
    assert scale_of(0.5) == 4.0
    assert scale_of(0.8) == 1.6
    assert scale_of(0.1) == MOST
    assert scale_of(2.0) == 1.0  # they grew


def test_nothing_left_and_nothing_there():
    model = nn.Linear(4, 3)
    inputs, targets = torch.randn(20, 4), torch.zeros(20, dtype=torch.int64)
    ev = opf.Evaluator(model, (inputs, targets))
    assert logit_scale(ev, opf.PackedMasks.from_indices(ev.layout, torch.tensor([], dtype=torch.int64))) == MOST
    constant = opf.Evaluator(model, (inputs[:1].repeat(20, 1), targets))
    assert logit_scale(constant, opf.magnitude(model, 0.5).mask) in (1.0, MOST)


def test_fitness_is_the_evaluators_at_that_scale(network, samples):
    inputs, targets = samples
    validation = inputs[150:], targets[150:]
    result = opf.prune(network, (inputs[:150], targets[:150]), 0.9, validation=validation, evaluations=200)
    assert result.logit_scale > 1
    judge = opf.Evaluator(network, validation, logit_scale=result.logit_scale)
    assert float(judge(result.mask)[0]) == pytest.approx(result.fitness, rel=1e-6)
    assert float(judge(result.magnitude)[0]) == pytest.approx(result.baseline, rel=1e-6)
    plain = opf.prune(network, (inputs[:150], targets[:150]), 0.9, validation=validation, evaluations=200,
                      logit_scale=1.0)
    assert plain.logit_scale == 1
    assert float(opf.Evaluator(network, validation)(plain.mask)[0]) == pytest.approx(plain.fitness, rel=1e-6)


def test_a_sweep_has_a_scale_for_each_sparsity_and_other_objectives_have_none(network, samples):
    scales = [result.logit_scale for result in sweep(network, samples, (0.3, 0.9), evaluations=100).results]
    assert scales[0] < scales[1]
    assert opf.prune(network, samples, 0.9, evaluations=100, objective="kl_to_dense").logit_scale == 1


def test_another_scale_is_another_search(network, samples, tmp_path):
    opf.prune(network, samples, 0.9, evaluations=100, journal=tmp_path / "journal")
    with pytest.raises(ValueError, match=r"journal of another run: .*logit_scale"):
        opf.prune(network, samples, 0.9, evaluations=100, journal=tmp_path / "journal", logit_scale=1.0)


@pytest.mark.parametrize("given", [{"logit_scale": 0.0}, {"logit_scale": 2.0, "objective": "kl_to_dense"}])
def test_wrong_scales_are_told_before_any_work(network, given):
    with pytest.raises(ValueError, match="logit_scale"):
        opf.prune(network, iter(()), 0.9, evaluations=100, **given)
