"""An evaluator on some of the samples: the same network, the same bits as one made for those samples alone."""

import pytest
import torch

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.operators import random_masks
from optprune_fast.models import MLP

PICKED = torch.tensor([3, 150, 0, 77, 199, 42, 8])


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return MLP([16, 24, 4])


@pytest.fixture(scope="module")
def samples():
    random = torch.Generator().manual_seed(4)
    return torch.randn(200, 16, generator=random), torch.randint(4, (200,), generator=random)


@pytest.fixture
def evaluator(network, samples):
    return Evaluator(network, samples)


def alone(network, samples, **options):
    return Evaluator(network, (samples[0][PICKED], samples[1][PICKED]), **options)


@pytest.mark.parametrize("objective", ["cross_entropy", "error", "kl_to_dense"])
def test_it_evaluates_masks_and_moves_like_an_evaluator_of_those_samples(network, samples, objective):
    whole, apart = Evaluator(network, samples, objective), alone(network, samples, objective=objective)
    part = whole.subset(PICKED)
    assert (part.samples, part.layout, part.backend) == (7, whole.layout, whole.backend)
    masks, moves = random_masks(part.layout, 100, [1, 2, 3]), torch.tensor([[0, 5], [7, -1], [400, 30]])
    assert torch.equal(part(masks), apart(masks))
    assert torch.equal(part.moves(masks[0], moves), apart.moves(masks[0], moves))
    assert torch.equal(part.outputs(masks), apart.outputs(masks))


@pytest.mark.parametrize("first", ["part", "whole"])
def test_whoever_is_asked_first_the_other_is_not_disturbed(network, samples, first):
    whole, reference = Evaluator(network, samples), Evaluator(network, samples)
    part, masks, moves = whole.subset(PICKED), random_masks(whole.layout, 100, [1, 2]), torch.tensor([[0, 5], [9, 11]])
    for one in (part, whole) if first == "part" else (whole, part):
        one.moves(masks[0], moves)
        one(masks)
    assert torch.equal(whole(masks), reference(masks))
    assert torch.equal(whole.moves(masks[0], moves), reference.moves(masks[0], moves))


def test_samples_come_from_every_batch(network, samples):
    batches = [(samples[0][:60], samples[1][:60]), (samples[0][60:], samples[1][60:])]
    masks = random_masks(Evaluator(network, samples).layout, 100, [1])
    part = Evaluator(network, batches).subset(PICKED)
    assert part.samples == 7
    assert torch.allclose(part(masks), alone(network, samples)(masks), rtol=1e-6)


@pytest.mark.parametrize("numbers", [[-1, 3], [0, 200]])
def test_numbers_outside_the_data_are_an_error(evaluator, numbers):
    with pytest.raises(ValueError, match=r"sample numbers must lie in \[0, 200\)"):
        evaluator.subset(torch.tensor(numbers))
    with pytest.raises(ValueError, match=r"sample numbers must lie in \[0, 200\)"):
        evaluator.mean_gradients(random_masks(evaluator.layout, 100, [1]), torch.tensor(numbers))


def test_streamed_data_cannot_be_picked_from(network, samples):
    with pytest.raises(ValueError, match="streamed data cannot be picked from"):
        Evaluator(network, samples, stream=True).subset(PICKED)


# ---- other data


@pytest.mark.parametrize("objective", ["cross_entropy", "error", "kl_to_dense"])
def test_on_other_data_it_is_an_evaluator_made_for_them(network, samples, objective):
    random = torch.Generator().manual_seed(9)
    other = torch.randn(90, 16, generator=random), torch.randint(4, (90,), generator=random)
    found, made = Evaluator(network, samples, objective).on(other), Evaluator(network, other, objective)
    masks, moves = random_masks(made.layout, 100, [1, 2, 3]), torch.tensor([[0, 5], [7, -1], [400, 30]])
    assert (found.samples, found.backend) == (90, made.backend)
    assert torch.equal(found(masks), made(masks))
    assert torch.equal(found.moves(masks[0], moves), made.moves(masks[0], moves))
    assert found.metrics(masks).keys() == made.metrics(masks).keys()


def test_on_data_of_another_shape_it_captures_anew_and_targets_are_checked_anew():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
                                      torch.nn.Flatten(), torch.nn.Linear(2, 4))
    first = torch.randn(9, 1, 8, 8), torch.arange(9) % 4
    second = torch.randn(7, 1, 6, 5), torch.arange(7) % 4
    evaluator = Evaluator(network, first)
    masks = random_masks(evaluator.layout, 12, [1, 2])
    assert torch.equal(evaluator.on(second)(masks), Evaluator(network, second)(masks))
    with pytest.raises(ValueError, match=r"targets must lie in \[0, 4\)"):
        evaluator.on((second[0], torch.full((7,), 4)))


# ---- mean gradients


def test_mean_gradients_are_the_first_half_of_gradients(network, samples, evaluator):
    mask = random_masks(evaluator.layout, 100, [4])
    found, exact = evaluator.mean_gradients(mask, PICKED), alone(network, samples).gradients(mask)
    assert found.keys() == exact.keys()
    for name, (mean, _) in exact.items():
        assert torch.allclose(found[name], mean, rtol=1e-5, atol=1e-7)
        assert found[name].abs().max() > 1e-3


def test_an_objective_of_steps_has_no_gradient(network, samples):
    evaluator = Evaluator(network, samples, "error")
    found = evaluator.mean_gradients(random_masks(evaluator.layout, 100, [4]), PICKED)
    assert all(not gradient.any() for gradient in found.values())


def test_a_parameter_of_the_model_gets_no_gradient_and_several_masks_are_refused(network, evaluator):
    masks = random_masks(evaluator.layout, 100, [4, 5])
    evaluator.mean_gradients(masks[0], PICKED)
    assert all(parameter.grad is None for parameter in network.parameters())
    with pytest.raises(ValueError, match=r"Evaluator.mean_gradients: one mask at a time"):
        evaluator.mean_gradients(masks, PICKED)
