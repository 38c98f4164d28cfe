"""The problem of pruning the small network of tests/conftest.py."""

import pytest

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.search.problem import Problem


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
