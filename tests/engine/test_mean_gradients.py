"""Mean gradients on several threads: the same bits, each thread with a model of its own, as many as there are."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from optprune_fast.engine import gradients_mean
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.operators import random_masks
from optprune_fast.models import ResNet20

SAMPLES = torch.arange(24)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(gradients_mean, "CHUNK_BYTES", 1)  # a sample each


def on(threads, evaluator, monkeypatch, samples=SAMPLES):
    monkeypatch.setenv("OPTPRUNE_THREADS", str(threads))
    found = evaluator.mean_gradients(random_masks(evaluator.layout, evaluator.layout.n // 3, [1]), samples)
    return torch.cat([gradient.flatten() for gradient in found.values()])


@pytest.fixture(scope="module")
def pictures():
    random = torch.Generator().manual_seed(1)
    return torch.randn(30, 3, 8, 8, generator=random), torch.randint(10, (30,), generator=random)


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ResNet20(width=4).eval()


@pytest.mark.parametrize("objective", ["cross_entropy", "kl_to_dense"])
def test_threads_change_no_bit(network, pictures, monkeypatch, small_chunks, objective):
    evaluator = Evaluator(network, pictures, objective)
    one = on(1, evaluator, monkeypatch)
    assert one.abs().max() > 1e-6
    assert all(torch.equal(on(threads, evaluator, monkeypatch), one) for threads in (2, 3, 64))


def test_chunks_add_up_to_what_all_samples_give(network, pictures, monkeypatch, small_chunks):
    evaluator = Evaluator(network, pictures)
    many = on(2, evaluator, monkeypatch)
    monkeypatch.setattr(gradients_mean, "CHUNK_BYTES", 1 << 30)
    assert torch.allclose(on(2, evaluator, monkeypatch), many, rtol=1e-4, atol=1e-6)


class Meeting(nn.Linear):
    """Goes on when two threads are in it at once: were they in one module, one would use the other's weights."""

    barrier = None

    def forward(self, x):
        if Meeting.barrier is not None:
            Meeting.barrier.wait(timeout=20)
        return super().forward(x)


def test_two_threads_work_at_once_in_modules_of_their_own(monkeypatch, small_chunks):
    evaluator = Evaluator(Meeting(3, 2), (torch.randn(4, 3), torch.tensor([0, 1, 0, 1])))
    alone = on(1, evaluator, monkeypatch, torch.arange(4))
    monkeypatch.setattr(Meeting, "barrier", threading.Barrier(2))
    assert torch.equal(on(2, evaluator, monkeypatch, torch.arange(4)), alone)


class Alone(nn.Linear):
    def __deepcopy__(self, memo):
        raise TypeError("one of a kind")


def test_a_model_that_cannot_be_copied_has_one_thread(monkeypatch, small_chunks):
    data = torch.randn(30, 3), torch.arange(30) % 2
    network = Alone(3, 2)
    plain = nn.Linear(3, 2)
    plain.load_state_dict(network.state_dict())
    assert torch.equal(on(2, Evaluator(network, data), monkeypatch), on(2, Evaluator(plain, data), monkeypatch))


def test_an_objective_of_the_callers_is_called_on_the_callers_thread(monkeypatch, small_chunks):
    seen = set()

    def objective(outputs, targets):
        seen.add(threading.current_thread())
        return F.cross_entropy(outputs, targets, reduction="none")

    on(2, Evaluator(nn.Linear(3, 2), (torch.randn(30, 3), torch.arange(30) % 2), objective), monkeypatch)
    assert seen == {threading.current_thread()}
