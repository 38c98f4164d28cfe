"""The problem of pruning the small network of tests/conftest.py."""

import pytest

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.search import STRATEGIES
from optprune_fast.search.annealing import Annealing
from optprune_fast.search.cross_entropy import CrossEntropy
from optprune_fast.search.differential_evolution import DifferentialEvolution
from optprune_fast.search.genetic import Genetic
from optprune_fast.search.levels import Levels
from optprune_fast.search.particle_swarm import ParticleSwarm
from optprune_fast.search.problem import Problem
from optprune_fast.search.straight_through import StraightThrough
from optprune_fast.search.swaps import SwapSearch

SMALL_ONES = {
    "annealing": lambda: Annealing(wide=40, keep=8, part=40, refresh=4, ranking=60, first=30, leg=3),
    "cross_entropy": lambda: CrossEntropy(population=10, elite=0.2),
    "differential_evolution": lambda: DifferentialEvolution(population=8),
    "genetic": lambda: Genetic(population=6, children=10),
    "levels": lambda: Levels(children=5),
    "particle_swarm": lambda: ParticleSwarm(particles=8),
    "straight_through": lambda: StraightThrough(steps=400, batch=8, leg=5, rate=0.1),
    "swap": lambda: SwapSearch(pairs=12, first=30),
}


@pytest.fixture(scope="session")
def small_one():
    """A strategy by name, with few candidates a question, for the small network."""
    return lambda name: SMALL_ONES.get(name, STRATEGIES[name])()


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
