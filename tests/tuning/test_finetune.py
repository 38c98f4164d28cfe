"""`finetune` trains what the mask keeps, and nothing else changes."""

import copy

import pytest
import torch
from torch import nn

import optprune_fast as opf
from optprune_fast.engine.batches import HELD_OUT, collect, split
from optprune_fast.masks.apply import zero_pruned
from optprune_fast.runtime.errors import TuningWarning
from optprune_fast.tuning import training
from optprune_fast.tuning.finetune import finetune
from optprune_fast.tuning.support import Support


def pruned_are_zero(model, mask):
    weights = mask.layout.weights_of(model)
    return all(bool((weights[name][~bits[0]].view(torch.int32) == 0).all()) for name, bits in mask.to_dense().items())


def cross_entropy(model, data):
    return nn.functional.cross_entropy(model(data[0]), data[1]).item()


def test_ctrl_c_while_the_scale_is_looked_for_gives_the_pruned_network(everything, pictures, monkeypatch):
    def interrupted(model, loss, batches):
        raise KeyboardInterrupt

    monkeypatch.setattr("optprune_fast.tuning.finetune.enlarge_logits", interrupted)
    mask = opf.magnitude(everything, 0.7).mask
    tuned = finetune(everything.train(), mask, pictures, epochs=2, batch_size=20)
    assert not tuned.training
    assert all(torch.equal(weight, Support("", everything, mask).state()[name])
               for name, weight in tuned.state_dict().items())


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_pruned_weights_are_zero_in_every_forward_pass(everything, pictures, optimizer):
    mask = opf.magnitude(everything, 0.7).mask
    looks = []
    everything.register_forward_hook(lambda module, args, output: looks.append(pruned_are_zero(module, mask)))
    tuned = finetune(everything, mask, pictures, epochs=2, batch_size=20, optimizer=optimizer, weight_decay=0.1,
                     validation=pictures)
    dense_pass = 1  # what the outputs look like is found on the unpruned network
    assert looks.count(False) == dense_pass
    assert len(looks) > 2 * 5
    assert pruned_are_zero(tuned, mask)
    assert tuned.first.weight is tuned.second.weight
    assert not torch.equal(tuned.first.weight, everything.first.weight * mask.to_dense()["first.weight"][0])


def test_a_weight_that_momentum_moves_is_put_back(everything, pictures, monkeypatch):
    """An optimizer that moves everything, whatever its gradient."""
    class Pusher(torch.optim.SGD):
        def step(self):
            super().step()
            with torch.no_grad():
                for parameter in self.param_groups[0]["params"]:
                    parameter.add_(1e-3)

    monkeypatch.setattr(training.torch.optim, "SGD", Pusher)
    mask = opf.magnitude(everything, 0.7).mask
    assert pruned_are_zero(finetune(everything, mask, pictures, epochs=1, optimizer="sgd"), mask)


def test_an_embedding_is_tuned_with_its_mask():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(12, 6), nn.Flatten(), nn.Linear(24, 3))
    tokens = torch.randint(12, (90, 4), generator=torch.Generator().manual_seed(1))
    layout = opf.MaskLayout.of(model, include="*.weight")
    mask = opf.magnitude(model, 0.5, layout=layout).mask
    tuned = finetune(model, mask, (tokens, tokens[:, 0] % 3), epochs=3, lr=1e-2)
    assert pruned_are_zero(tuned, mask)
    assert not torch.equal(tuned[0].weight != 0, model[0].weight != 0)


def test_it_learns_and_leaves_the_model_and_the_generator(everything, pictures):
    mask = opf.magnitude(everything, 0.5).mask
    before, random = copy.deepcopy(everything.state_dict()), torch.get_rng_state()
    tuned = finetune(everything, mask, pictures, epochs=12, lr=3e-2, batch_size=20, validation=pictures)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in everything.state_dict().items())
    assert not tuned.training
    assert cross_entropy(tuned, pictures) < 0.7 * cross_entropy(Support("", everything, mask).model, pictures)


def test_a_seed_repeats_bit_for_bit(everything, pictures):
    mask = opf.magnitude(everything, 0.5).mask
    once, again, other = (finetune(everything, mask, pictures, epochs=2, batch_size=16, seed=seed).state_dict()
                          for seed in (3, 3, 4))
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert any(not torch.equal(once[name], other[name]) for name in once)


def test_the_best_epoch_on_the_held_out_part_is_returned(everything, pictures):
    """A rate that ruins the network: what is returned is the start, on the part that `prune` holds out, too."""
    mask = opf.magnitude(everything, 0.5).mask
    [held_out] = split(collect(pictures), HELD_OUT, 0)[1]
    start = Support("", everything, mask).model
    tuned = finetune(everything, mask, pictures, epochs=1, lr=50.0, batch_size=20, freeze_statistics=True)
    tuned_loss, start_loss = (cross_entropy(model, (*held_out.args, held_out.targets)) for model in (tuned, start))
    assert tuned_loss <= start_loss
    assert torch.equal(tuned.last.bias, everything.last.bias)


def test_statistics_are_frozen_if_asked_for(everything, pictures):
    mask = opf.magnitude(everything, 0.5).mask
    for freeze in (True, False):
        tuned = finetune(everything, mask, pictures, epochs=6, lr=2e-2, batch_size=20, freeze_statistics=freeze,
                         validation=pictures)
        assert torch.equal(tuned.norm.running_mean, everything.norm.running_mean) == freeze
        assert not torch.equal(tuned.norm.weight, everything.norm.weight)


@pytest.mark.parametrize("objective", ["kl_to_dense", "mse_to_dense", nn.functional.cross_entropy])
def test_other_objectives_fall(everything, pictures, objective):
    mask = opf.magnitude(everything, 0.6).mask
    tuned = finetune(everything, mask, pictures, epochs=12, lr=3e-2, batch_size=20, objective=objective,
                     validation=pictures)

    def loss(model):
        pruned = model(pictures[0])
        if callable(objective):
            return objective(pruned, pictures[1]).item()
        dense = everything(pictures[0])
        if objective == "mse_to_dense":
            return (pruned - dense).square().mean().item()
        return nn.functional.kl_div(pruned.log_softmax(1), dense.log_softmax(1), reduction="batchmean",
                                    log_target=True).item()

    assert loss(tuned) < 0.8 * loss(Support("", everything, mask).model)


# ---- ends before its time


def test_ctrl_c_returns_the_best_so_far(everything, pictures):
    calls = []

    def objective(outputs, targets):
        calls.append(1)
        if len(calls) > 80:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    mask = opf.magnitude(everything, 0.5).mask
    tuned = finetune(everything, mask, pictures, epochs=1000, batch_size=20, lr=2e-2, objective=objective,
                     validation=pictures)
    assert pruned_are_zero(tuned, mask)
    assert not torch.equal(tuned.last.bias, everything.last.bias)


def test_a_loss_that_is_no_number_stops_it_and_is_said(everything, pictures):
    def objective(outputs, targets):
        return outputs.square().mean(1) / (0.0 if len(outputs) == 20 else 1.0) * 0.0

    mask = opf.magnitude(everything, 0.5).mask
    with pytest.warns(TuningWarning, match=r"finetune: the loss became nan in epoch 1.*best so far.*lr="):
        tuned = finetune(everything, mask, pictures, epochs=2, batch_size=20, objective=objective)
    assert torch.equal(tuned.last.bias, everything.last.bias)


# ---- errors teach


@pytest.mark.parametrize(("changed", "text"), [
    ({"epochs": 0}, "epochs and batch_size must be at least 1"),
    ({"batch_size": 0}, "epochs and batch_size must be at least 1"),
    ({"lr": 0.0}, "lr must be above 0"),
    ({"weight_decay": -1.0}, "weight_decay at least 0"),
    ({"optimizer": "adam"}, "one of adamw, sgd"),
    ({"objective": "error"}, "a count of errors has none"),
    ({"objective": "wish"}, "unknown objective"),
    ({"data": (torch.zeros(0, 2, 4, 4), torch.zeros(0).long())}, "at least one sample"),
    ({"data": (torch.zeros(9, 2, 4, 4), torch.full((9,), 3))}, "targets must lie in"),
    ({"data": (torch.zeros(9, 2, 4, 4), None)}, "it needs targets"),
])
def test_wrong_arguments(everything, pictures, changed, text):
    arguments = {"data": pictures, **changed}
    with pytest.raises(ValueError, match=text):
        finetune(everything, opf.magnitude(everything, 0.5).mask, **arguments)


def test_a_mask_of_another_model(everything, pictures):
    mask = opf.magnitude(everything, 0.5).mask
    with pytest.raises(ValueError, match="one mask at a time"):
        finetune(everything, opf.PackedMasks.cat([mask, mask]), pictures)
    everything.last = nn.Linear(16, 4)
    with pytest.raises(ValueError, match=r"(?s)does not have this layout's parameters.*last.weight"):
        finetune(everything, mask, pictures)


def test_a_model_without_anything_to_train(everything, pictures):
    with pytest.raises(ValueError, match="requires_grad"):
        finetune(everything.requires_grad_(False), opf.magnitude(everything, 0.5).mask, pictures)


def test_several_masks_are_not_applied_at_once(everything):
    mask = opf.magnitude(everything, 0.5).mask
    with pytest.raises(ValueError, match=r"zero_pruned: one mask at a time(.|\n)*masks\[i\]"):
        zero_pruned(everything, opf.PackedMasks.cat([mask, mask]))
