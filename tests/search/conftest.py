"""A small network, 200 samples, and the problem of pruning it."""

import pytest
import torch

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.models import MLP
from optprune_fast.search.problem import Problem


@pytest.fixture(scope="session")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return MLP([16, 24, 4]).eval()


@pytest.fixture(scope="session")
def samples(network):
    """Targets are what the dense network says, so that there is something to lose."""
    inputs = torch.randn(200, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return inputs, network(inputs).argmax(1)


@pytest.fixture(scope="session")
def evaluator(network, samples):
    return Evaluator(network, (samples[0][:150], samples[1][:150]))


@pytest.fixture(scope="session")
def validation(network, samples):
    return Evaluator(network, (samples[0][150:], samples[1][150:]))


@pytest.fixture
def problem_of(evaluator):
    def make(sparsity=0.9, small=0.5, pool=0.4, seed=0, *, evaluator=evaluator):
        return Problem.of(evaluator, sparsity, small, pool, seed)

    return make
