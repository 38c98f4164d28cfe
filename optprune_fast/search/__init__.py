"""Which small weights to keep: strategies that ask for fitness and are told it."""

from __future__ import annotations

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.runtime.errors import message
from optprune_fast.search.adapters import ADAPTERS
from optprune_fast.search.annealing import Annealing
from optprune_fast.search.chain import Chain
from optprune_fast.search.cross_entropy import CrossEntropy
from optprune_fast.search.differential_evolution import DifferentialEvolution
from optprune_fast.search.genetic import Genetic
from optprune_fast.search.levels import Levels
from optprune_fast.search.particle_swarm import ParticleSwarm
from optprune_fast.search.straight_through import StraightThrough
from optprune_fast.search.strategy import Strategy
from optprune_fast.search.swaps import SwapSearch

STRATEGIES: dict[str, type[Strategy]] = {
    "annealing": Annealing, "cross_entropy": CrossEntropy, "differential_evolution": DifferentialEvolution,
    "genetic": Genetic, "levels": Levels, "particle_swarm": ParticleSwarm, "straight_through": StraightThrough,
    "swap": SwapSearch,
}
SWAPS_UP_TO = 2e11  # multiply-adds of the dense network over all calibration data; beyond, a hundred swaps take minutes


ANNEALING_FROM = 30.0  # seconds of a time limit; in fewer, swaps end lower: docs/RESULTS.md, parts of the data


def auto(evaluator: Evaluator | None = None, seconds: float | None = None) -> Strategy:
    """The best measured combination for what an evaluator has to do, in `seconds` if they are limited: docs/RESULTS.md.

    Scores find in seconds what is worth keeping; exact swaps, many at once, take it to where none helps; annealing
    leaves that place again. Shares are of the run's limits, and what one stage leaves over the next one gets. Where
    networks or data are so large that swaps cannot be afforded, scores alone; where an objective gives one number for
    all samples, and so has no gradients of its own, the genetic algorithm.
    """
    if evaluator is not None and evaluator.objective.whole is not None:
        return Genetic()
    if evaluator is not None and evaluator.samples * evaluator.multiply_adds > SWAPS_UP_TO:
        return Chain([(StraightThrough(), 1.0)], "auto")
    # A question of swaps is a tenth of the evaluations that small networks are given.
    swaps_end = 0.8 if seconds is None else 1.0 if seconds < ANNEALING_FROM else 0.5
    return Chain([(StraightThrough(), 0.4), (SwapSearch(kick=0), swaps_end), (Annealing(), 1.0)], "auto")


def strategy_named(strategy: str | Strategy) -> Strategy:
    """A strategy by name, or the caller's own as it is."""
    if isinstance(strategy, Strategy):
        return strategy
    if strategy == "auto":
        return auto()
    kinds = STRATEGIES | ADAPTERS
    if strategy not in kinds:
        raise ValueError(message("strategy", f"one of auto, {', '.join(kinds)}, or a Strategy of your own",
                                 strategy=strategy))
    return kinds[strategy]()
