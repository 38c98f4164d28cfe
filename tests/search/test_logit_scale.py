"""The scale that a search gives logits."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import optprune_fast as opf
from optprune_fast.engine.logit_scale import best_scale
from optprune_fast.recipe.sweep import sweep
from optprune_fast.runtime.errors import EvaluationWarning
from optprune_fast.search import logit_scale
from optprune_fast.search.logit_scale import MOST, find_logit_scale
from optprune_fast.search.problem import Problem
from optprune_fast.search.straight_through import StraightThrough


def problem_of(network, samples, sparsity=0.9, small=1.0):
    return Problem.of(opf.Evaluator(network, samples), sparsity, small, 1.0, 0)


def found(problem, seconds=None):
    return find_logit_scale(problem, problem.evaluator, seconds)


@pytest.mark.parametrize("shape", [(300, 4), (120, 4, 3)])
def test_the_best_scale_has_the_least_loss(shape):
    made = torch.Generator().manual_seed(1)
    targets = torch.randint(4, (shape[0], *shape[2:]), generator=made)
    logits = torch.randn(shape, generator=made) + 2.0 * F.one_hot(targets, 4).movedim(-1, 1)
    half = len(targets) // 2
    best = best_scale([(logits[:half] / 1.2, targets[:half]), (logits[half:] / 1.2, targets[half:])], MOST)
    losses = [F.cross_entropy(t * logits / 1.2, targets) for t in (0.98 * best, best, 1.02 * best)]
    assert losses[1] == min(losses)
    assert 1.0 < best < MOST


def test_the_best_scale_keeps_its_bounds():
    sure, targets = 50 * torch.eye(4), torch.arange(4)
    assert best_scale([(0.001 * sure, targets)], MOST) == pytest.approx(MOST, rel=1e-6)
    assert best_scale([(sure, targets.flip(0))], MOST) == 1.0
    assert best_scale([(torch.full((4, 4), float("nan")), targets)], MOST) == 1.0


def test_of_more_outputs_than_are_needed_every_stretch_of_the_data_gives_its_share(network, samples, monkeypatch):
    inputs, targets = samples
    order = targets.argsort()  # as a folder of pictures a class gives them
    judge = opf.Evaluator(network, (inputs[order], targets[order]))
    assert logit_scale._enough_of(judge, 0) is judge
    monkeypatch.setattr(logit_scale, "JUDGED", 40)
    chosen = [next(iter(logit_scale._enough_of(judge, seed).batches)) for seed in (0, 0, 1)]
    for batch in chosen:
        counts, share = batch.targets.bincount(minlength=4), targets.bincount(minlength=4) * 40 / 200
        assert int(counts.sum()) == 40
        assert float((counts - share).abs().max()) < 2  # a stretch at each end may be shared with another class
    assert torch.equal(chosen[0].args[0], chosen[1].args[0])
    assert not torch.equal(chosen[0].args[0], chosen[2].args[0])


def sure(network, factor):
    """A copy whose logits are so many times as large; its weights rank the same within the last layer."""
    network = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in list(network.children())[-1].parameters():
            parameter.mul_(factor)
    return network


def test_small_logits_get_a_larger_scale(network, samples):
    scales = [found(problem_of(sure(network, factor), samples)) for factor in (100.0, 8.0, 1.0)]
    assert scales == sorted(scales)
    assert 1.0 <= scales[0] < scales[-1] == MOST


def test_what_it_spends_is_counted_and_limited(network, samples):
    problem = problem_of(network, samples)
    scale = found(problem)
    assert problem.work.gradients == 200
    assert problem.work.screened == 5
    assert scale == found(problem_of(network, samples)) == found(problem_of(network, samples), 1e9)
    for hurried in (problem_of(network, samples), problem_of(network, samples, small=0.0)):
        assert found(hurried, 1e-9 if hurried.choices else None) == 1.0
        assert hurried.work.gradients == 0


class Opaque(nn.Module):
    """Torch cannot differentiate it."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return torch.from_numpy(self.network(x).numpy())


@pytest.mark.filterwarnings("ignore:vmap cannot run this model")
def test_a_model_without_gradients_is_searched_at_scale_one(network, samples):
    with pytest.warns(EvaluationWarning, match="scale of the logits is taken as 1.*no gradients"):
        result = opf.prune(Opaque(network), samples, 0.9, "genetic", evaluations=60)
    assert result.logit_scale == 1


def test_samples_of_several_shapes(network):
    """Sequences of 4 and of 6, a class for each step."""
    made = torch.Generator().manual_seed(0)
    net = nn.Conv1d(5, 3, 1)
    data = [(torch.randn(40, 5, length, generator=made), torch.randint(3, (40, length), generator=made))
            for length in (4, 6)]
    result = opf.prune(net, data, 0.5, evaluations=60)
    assert 1.0 <= result.logit_scale <= MOST


def test_ctrl_c_while_the_scale_is_looked_for_keeps_magnitudes_mask(network, samples, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(StraightThrough, "_descend", interrupted)
    result = opf.prune(network, samples, 0.9, evaluations=60)
    assert (result.stopped_by, result.evaluations, result.history) == ("interrupt", 0, [])
    assert torch.equal(result.mask.words, result.magnitude.words)
    assert result.fitness == result.baseline


def test_figures_are_of_logits_as_they_are(network, samples):
    inputs, targets = samples
    validation = inputs[150:], targets[150:]
    result = opf.prune(network, (inputs[:150], targets[:150]), 0.9, validation=validation, evaluations=200)
    assert result.logit_scale > 1
    judge, search = opf.Evaluator(network, validation), opf.Evaluator(network, (inputs[:150], targets[:150]))
    assert judge(opf.PackedMasks.cat([result.mask, result.magnitude])).tolist() == [result.fitness, result.baseline]
    assert float(search(result.mask)[0]) == result.calibration_fitness
    assert result.fitness <= result.baseline
    last = min(row["validation"] for row in result.history)
    assert float(judge.scaled(result.logit_scale)(result.mask)[0]) == pytest.approx(last, rel=1e-6)
    plain = opf.prune(network, samples, 0.9, evaluations=200, logit_scale=1.0)
    assert plain.logit_scale == 1
    assert plain.gradient_passes < result.gradient_passes


def test_what_is_worse_than_magnitude_as_it_is_is_not_returned(network, samples):
    """At a scale of a millionth all masks are equally good to the search, and magnitude's is not lost."""
    result = opf.prune(network, samples, 0.3, "genetic", evaluations=60, logit_scale=1e-6)
    assert result.fitness <= result.baseline


def test_a_sweep_has_a_scale_for_each_sparsity_and_other_objectives_have_none(network, samples):
    results = sweep(sure(network, 5.0), samples, (0.3, 0.9), evaluations=100).results
    assert results[0].logit_scale != results[1].logit_scale
    assert opf.prune(network, samples, 0.9, evaluations=100, objective="kl_to_dense").logit_scale == 1


def test_a_journal_knows_the_scale(network, samples, tmp_path):
    """It is found again for another search only, and a scale that is asked for makes another search."""
    place = tmp_path / "journal"
    first = opf.prune(network, samples, 0.9, evaluations=100, journal=place)
    again = opf.prune(network, samples, 0.9, evaluations=100, journal=place)
    assert again.logit_scale == first.logit_scale
    assert (again.screened, again.gradient_passes) == (first.screened, first.gradient_passes)
    assert torch.equal(again.mask.words, first.mask.words)
    with pytest.raises(ValueError, match=r"journal of another run: logit_scale"):
        opf.prune(network, samples, 0.9, evaluations=100, journal=place, logit_scale=1.0)


@pytest.mark.parametrize("given", [{"logit_scale": 0.0}, {"logit_scale": 2.0, "objective": "kl_to_dense"}])
def test_wrong_scales_are_told_before_any_work(network, given):
    with pytest.raises(ValueError, match="logit_scale"):
        opf.prune(network, iter(()), 0.9, evaluations=100, **given)
