"""A small network, 200 samples, and one result."""

import pytest
import torch

from optprune_fast.models import MLP
from optprune_fast.recipe.prune import prune


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
def result(network, samples):
    """Found with a core, so that every mask of it differs from the others."""
    return prune(network, samples, 0.9, small=0.5, evaluations=400)
