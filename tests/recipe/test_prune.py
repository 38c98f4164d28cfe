"""`prune` selects on data of its own and leaves everything as it was."""

import copy

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from optprune_fast.engine.batches import collect, split
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.magnitude import magnitude
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.models import MLP
from optprune_fast.recipe.prune import prune
from optprune_fast.search import STRATEGIES
from optprune_fast.search.strategy import Strategy

NUMBERED = torch.arange(200.0).reshape(200, 1)

ENDING = ("levels", "straight_through")  # of themselves, on a network this small


# ---- splits


def test_the_held_out_part_is_a_seeded_tenth_and_disjoint():
    data = collect((NUMBERED, torch.arange(200)))
    rest, held = (torch.cat([batch.targets for batch in side]) for side in split(data, 0.1, seed=3))
    assert len(held) == 20
    assert torch.cat([rest, held]).sort().values.tolist() == list(range(200))
    assert torch.equal(held, split(data, 0.1, seed=3)[1][0].targets)
    assert not torch.equal(held, split(data, 0.1, seed=4)[1][0].targets)


def test_fitness_and_baseline_are_on_the_held_out_part(network, samples, result):
    calibration, held = split(collect(samples), 0.1, result.seed)
    judge, evaluator = Evaluator(network, held), Evaluator(network, calibration)
    assert result.fitness == float(judge(result.mask)[0])
    assert result.baseline == float(judge(result.magnitude)[0])
    assert result.history[0]["fitness"] == float(evaluator.scaled(result.logit_scale)(result.magnitude)[0])
    assert "10%" in result.held_out


def test_validation_is_used_as_given_and_data_whole(network, samples):
    inputs, targets = samples
    data, validation = (inputs[:120], targets[:120]), (inputs[120:], targets[120:])
    result = prune(network, data, 0.9, validation=validation, evaluations=200)
    assert result.fitness == float(Evaluator(network, validation)(result.mask)[0])
    search = Evaluator(network, data, logit_scale=result.logit_scale)
    assert result.history[0]["fitness"] == float(search(result.magnitude)[0])
    assert "caller" in result.held_out


def test_no_call_of_the_objective_mixes_the_parts(network, samples):
    """Targets carry the number of their sample; each call sees one part, whole but for the probe of two."""
    seen = []

    def objective(outputs, numbers):
        if len(numbers) > 2:
            seen.append(frozenset(numbers.tolist()))
        return outputs.square().mean(1)

    prune(network, (samples[0], torch.arange(200)), 0.9, "genetic", evaluations=120, objective=objective)
    parts = sorted(set(seen), key=len)
    assert [len(part) for part in parts] == [20, 180]
    assert not parts[0] & parts[1]


# ---- what comes back


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("small", [0.0, 0.3, 1.0])
def test_the_result_keeps_the_budget_and_is_never_worse_than_magnitude(network, samples, strategy, small):
    result = prune(network, samples, 0.9, strategy, small=small, evaluations=150)
    assert result.budget == 48
    assert result.fitness <= result.baseline
    assert result.magnitude == magnitude(network, 0.9).mask
    assert int(result.mask.overlap(result.core)) == int(result.core.count()) == 48 - int(small * 48)
    if strategy in ENDING:
        assert result.stopped_by == "strategy"
    else:
        assert result.evaluations == (1 if small == 0 else 150)
    assert (result.mask == result.magnitude) or result.kept_small > 0


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_the_calibration_fitness_is_that_of_the_mask_on_what_the_search_saw(network, samples, sparsity):
    held_out = (samples[0][:50], samples[1][:50])
    result = prune(network, samples, sparsity, validation=held_out, evaluations=150)
    assert result.calibration_fitness == float(Evaluator(network, samples)(result.mask)[0])


def test_the_model_and_the_random_state_are_as_before(network, samples):
    model = copy.deepcopy(network).train()
    held = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    prune(model, samples, 0.9, evaluations=150)
    assert model.state_dict().keys() == held.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.view(torch.int32), held[name].view(torch.int32))
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_data_loader_gives_what_its_tensors_give(network, samples, result):
    loader = DataLoader(TensorDataset(*samples), batch_size=33)
    again = prune(network, loader, 0.9, small=0.5, evaluations=400)
    assert (again.mask, again.fitness, again.baseline) == (result.mask, result.fitness, result.baseline)


def test_ones_own_strategy_searches(network, samples):
    class Once(Strategy):
        name = "once"

        def start(self, problem):
            self.question = random_masks(problem.layout, problem.budget, [7, 8], core=problem.core, within=problem.open)

        def ask(self):
            question, self.question = self.question, None
            return question

        def tell(self, fitness):
            self.fitness = fitness

    strategy = Once()
    result = prune(network, samples, 0.9, strategy, small=0.5, evaluations=50)
    assert (result.strategy, result.evaluations, result.stopped_by) == ("once", 2, "strategy")
    assert len(strategy.fitness) == 2


@pytest.mark.parametrize("strategy", ["genetic", "swap"])
def test_ctrl_c_returns_the_best_so_far(network, samples, strategy):
    calls = [0]

    def objective(outputs, targets):
        calls[0] += 1
        if calls[0] == 260:
            raise KeyboardInterrupt
        return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")

    result = prune(network, samples, 0.9, strategy, objective=objective, time_limit=600)
    assert result.stopped_by == "interrupt"
    assert 90 < result.evaluations < 260
    assert result.budget == 48
    assert result.fitness <= result.baseline


def test_an_objective_with_one_number_for_all_samples_needs_no_gradients(network, samples):
    def worst(outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets, reduction="none").max()

    assert prune(network, samples, 0.9, objective=worst, evaluations=100).strategy == "genetic"
    with pytest.raises(ValueError, match=r"the objective must give one number a sample\n  objective  'worst'"):
        prune(network, samples, 0.9, "swap", objective=worst, evaluations=100)


# ---- what it is for


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: the digits come with it")
    from optprune_fast.data import load
    from optprune_fast.models.train import train

    data = load("digits")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MLP([64, 32, 10])
    return train(model, data.train, epochs=15), data


@pytest.mark.parametrize("small", [0.4, 1.0], ids=["core", "free"])
def test_optimized_beats_magnitude_and_random_small_weights_on_test_data(digits, small):
    model, data = digits
    result = prune(model, data.train, 0.9, small=small, evaluations=1500)
    seeds = candidate_seeds(0, 0, 5)
    control = random_masks(result.layout, result.budget, seeds, core=result.core)
    assert control.count().tolist() == [result.budget] * 5
    test = Evaluator(model, data.test)
    optimized, baseline, drawn = (test.metrics(masks)["accuracy"].mean() for masks in (
        result.mask, result.magnitude, control))
    assert optimized > baseline
    assert optimized > drawn
