"""Which small weights to keep: strategies that ask for fitness and are told it."""

from __future__ import annotations

from optprune_fast.runtime.errors import message
from optprune_fast.search.annealing import Annealing
from optprune_fast.search.genetic import Genetic
from optprune_fast.search.levels import Levels
from optprune_fast.search.straight_through import StraightThrough
from optprune_fast.search.strategy import Strategy
from optprune_fast.search.swaps import SwapSearch

STRATEGIES: dict[str, type[Strategy]] = {
    "annealing": Annealing, "genetic": Genetic, "levels": Levels, "straight_through": StraightThrough,
    "swap": SwapSearch,
}
AUTO = "swap"  # the best measured one: docs/RESULTS.md, strategies
AUTO_WITHOUT_GRADIENTS = "genetic"  # where an objective gives one number for all samples


def strategy_named(strategy: str | Strategy) -> Strategy:
    """A strategy by name, or the caller's own as it is."""
    if isinstance(strategy, Strategy):
        return strategy
    name = AUTO if strategy == "auto" else strategy
    if name not in STRATEGIES:
        raise ValueError(message("strategy", f"one of auto, {', '.join(STRATEGIES)}, or a Strategy of your own",
                                 strategy=strategy))
    return STRATEGIES[name]()
