"""Before a pruned network is trained, its logits are made as sure as they are right."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import optprune_fast as opf
from optprune_fast.engine.batches import collect
from optprune_fast.engine.logit_scale import best_scale
from optprune_fast.tuning.logits import enlarge_logits
from optprune_fast.tuning.loss import Loss

SURE, MODEST = 5.0, 0.2


def data_of(model, seed=1):
    """Inputs, and the classes that the model finds, with some noise."""
    made = torch.Generator().manual_seed(seed)
    inputs = torch.randn(400, 6, generator=made)
    with torch.no_grad():
        outputs = model(inputs).reshape(400, -1)
        return inputs, (outputs / MODEST * SURE + torch.randn(outputs.shape, generator=made)).argmax(1)


def network(*end, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3), *end)
    with torch.no_grad():
        for parameter in net[2].parameters():
            parameter.mul_(MODEST)
    return net.eval()


def enlarge(model, data, objective="cross_entropy"):
    batches = collect(data)
    return enlarge_logits(model, Loss("test", model, batches, objective), batches)


@pytest.mark.parametrize("end", [(), (nn.Flatten(),), (nn.Identity(),), (nn.Unflatten(1, (3, 1)), nn.Flatten())])
def test_the_last_layer_gets_the_number_with_the_least_loss(end):
    model = network(*end)
    data = data_of(model)
    with torch.no_grad():
        before = model(data[0])
        factor = enlarge(model, data)
        after = model(data[0])
    assert 2.0 < factor < 100.0
    torch.testing.assert_close(after, factor * before)
    losses = [F.cross_entropy(scale * before, data[1]).item() for scale in (0.95 * factor, factor, 1.05 * factor)]
    assert losses[1] == min(losses)


def test_sure_logits_stay():
    model = network()
    inputs, classes = data_of(model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert enlarge(model, (inputs, (classes + 1) % 3)) == 1.0
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


class Tied(nn.Module):
    """Two layers that share their weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Repeated(nn.Module):
    """One layer that runs twice: larger, it would change its own input."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))


class Normalised(nn.Linear):
    """However large the weight, its rows have length one."""

    def forward(self, x):
        return F.linear(x, F.normalize(self.weight), self.bias)


def normalised(way):
    model = network()
    if way is Normalised:
        model[2] = Normalised(8, 3)
    else:
        way(model[2])
    return model.eval()


def frozen():
    model = network()
    model[2].weight.requires_grad_(False)
    return model


@pytest.mark.parametrize(("model", "objective"), [
    (network(nn.Tanh()), "cross_entropy"), (network(nn.ReLU(inplace=True)), "cross_entropy"), (Tied(), "cross_entropy"),
    (frozen(), "cross_entropy"), (network(), "kl_to_dense"), (Repeated(), "cross_entropy"),
    (normalised(Normalised), "cross_entropy"), (normalised(nn.utils.parametrizations.weight_norm), "cross_entropy"),
    (normalised(nn.utils.parametrizations.spectral_norm), "cross_entropy"),
], ids=["ends otherwise", "changed in place", "tied", "not to be trained", "another objective", "runs twice",
        "a layer of one's own", "weight norm", "spectral norm"])
def test_where_there_is_no_such_layer_nothing_changes(model, objective):
    data = data_of(model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert enlarge(model, data, objective) == 1.0
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert best_scale([(model(data[0]).detach(), data[1])], 100.0) > 1.5  # it would have been worth something


def test_of_many_samples_some_that_are_spread_evenly_tell(monkeypatch):
    model = network()
    inputs, classes = data_of(model)
    order = classes.argsort(stable=True)  # the first ones would all be of one class
    expected = enlarge(network(), (inputs, classes))
    seen = []
    model.register_forward_hook(lambda module, given, output: seen.append(len(output)))
    monkeypatch.setattr("optprune_fast.tuning.logits.JUDGED", 200)
    data = (inputs[order], classes[order])
    loss = Loss("test", model, collect(data), "cross_entropy")
    seen.clear()
    assert enlarge_logits(model, loss, collect(data)) == pytest.approx(expected, rel=0.3)
    assert seen == [2, 200]  # two to find the layer


def test_fine_tuning_starts_from_the_larger_logits():
    model = network()
    data = data_of(model)
    mask = opf.PackedMasks.full(opf.MaskLayout.of(model))
    expected = enlarge(network(), data)
    tuned = opf.finetune(model, mask, data, epochs=1, lr=1e-9, validation=data, progress=False)
    torch.testing.assert_close(tuned[2].weight, expected * model[2].weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(tuned[2].bias, expected * model[2].bias, rtol=1e-5, atol=1e-6)
