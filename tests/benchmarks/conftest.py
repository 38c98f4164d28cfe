"""The folder benchmarks/ is no part of the package: it is run from the root of the tree."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))


@pytest.fixture(scope="session")
def tiny():
    """A problem on which a wrong mask shows at once."""
    from optprune_fast.bench import Problem

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(20, 15), torch.nn.ReLU(), torch.nn.Linear(15, 4))
        return Problem("tiny", model.eval().requires_grad_(False), 3 * torch.randn(9, 20), torch.randint(4, (9,)))
