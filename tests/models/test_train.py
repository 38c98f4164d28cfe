"""Training is quick, repeatable and good enough to prune; accuracy is a fraction."""

import io

import pytest
import torch
from torch import nn

from optprune_fast.data import load
from optprune_fast.models import MLP, DepthwiseNet, ResNet20, TinyTransformer
from optprune_fast.models.train import accuracy, train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    return load("digits")


# Each bar is two to three points under the accuracy of seed 0, on 450 test samples.
@pytest.mark.parametrize(
    ("make", "settings", "bar"),
    [
        (lambda: MLP([64, 64, 32, 10]), {"epochs": 40}, 0.965),
        (lambda: DepthwiseNet(1, 10, width=8), {"epochs": 8}, 0.94),
        (lambda: ResNet20(1, 10, width=4), {"epochs": 8}, 0.95),
        (lambda: TinyTransformer(1, 8, 10, patch=2, width=32, heads=2), {"epochs": 16, "lr": 5e-3}, 0.92),
    ],
    ids=["mlp", "depthwise", "resnet20", "transformer"],
)
def test_networks_learn_the_digits(digits, make, settings, bar):
    torch.manual_seed(0)
    assert accuracy(train(make(), digits.train, **settings), digits.test) > bar


def toy(n=40):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()


class Dropping(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))


def test_one_seed_gives_the_same_weights_bit_for_bit():
    states = []
    for seed in (5, 5, 6):
        torch.manual_seed(0)
        net = Dropping()
        torch.rand(len(states) + 1)  # the state of the global generator must not matter, dropout included
        states.append(train(net, toy(), epochs=3, batch_size=8, seed=seed).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["0.weight"], states[2]["0.weight"])


def test_the_global_generator_is_left_alone():
    net = Dropping()
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    train(net, toy(), epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_ragged_last_batch_does_not_break_batch_norm():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    train(net, toy(17), epochs=2, batch_size=8)
    assert net[1].num_batches_tracked == 4


def test_fewer_samples_than_a_batch_still_train():
    torch.manual_seed(0)
    net = MLP([3, 2])
    before = net.layers[0].weight.clone()
    train(net, toy(5), epochs=2, batch_size=64)
    assert not torch.equal(net.layers[0].weight, before)


def test_a_single_step_is_enough():
    assert not train(MLP([3, 2]), toy(5), epochs=1).training


def test_training_says_nothing_off_a_terminal(capsys):
    train(MLP([3, 2]), toy(), epochs=2)
    assert capsys.readouterr() == ("", "")


def test_training_shows_progress_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    train(MLP([3, 2]), toy(), epochs=2)
    assert "train MLP" in screen.getvalue()
    assert "/2 [" in screen.getvalue()  # which steps are drawn depends on the clock


def test_accuracy_is_a_fraction_over_all_batches():
    targets = torch.arange(2503) % 4
    outputs = torch.nn.functional.one_hot(targets, 4).float()
    outputs[-3:] = outputs[-3:].roll(1, 1)  # wrong in the last, smaller batch
    assert accuracy(nn.Identity(), (outputs, targets)) == 2500 / 2503


def test_accuracy_evaluates_in_eval_mode_and_restores_every_mode():
    net = nn.Sequential(nn.Dropout(1.0), nn.BatchNorm1d(2))
    net[1].eval()
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert accuracy(net, (x, torch.tensor([0, 1]))) == 1.0
    assert [module.training for module in net.modules()] == [True, True, False]
    assert net[1].num_batches_tracked == 0


def test_empty_and_unequal_data_are_refused():
    x, y = toy(3)
    for bad in ((x[:0], y[:0]), (x, y[:2])):
        with pytest.raises(ValueError, match=r"train: data must be \(inputs"):
            train(MLP([3, 2]), bad, epochs=1)
        with pytest.raises(ValueError, match=r"accuracy: data must be \(inputs"):
            accuracy(MLP([3, 2]), bad)
    with pytest.raises(ValueError, match=r"must be at least 1\n  epochs  0\n  batch_size  64"):
        train(MLP([3, 2]), (x, y), epochs=0)
