"""Distribution-based search of EvoTorch: a batch of scores is one tensor."""

from __future__ import annotations

from torch import Tensor

from optprune_fast.runtime.errors import message
from optprune_fast.search.adapters.library import LibraryStrategy

ALGORITHMS = ("pgpe", "cem")


class EvoTorch(LibraryStrategy):
    """Policy gradients with parameter-based exploration, or EvoTorch's cross-entropy method, on latent scores.

    algorithm:   "pgpe" or "cem"
    population:  candidates of a generation: an even number for "pgpe", which draws opposite pairs, at least 10 for
                 "cem", which learns from a fifth of them
    spread:      first deviation of the scores, in standard deviations of `|w|`
    """

    name = "evotorch"
    install = "optprune-fast[evotorch]"

    def __init__(self, algorithm: str = "pgpe", population: int = 50, spread: float = 0.3) -> None:
        if algorithm not in ALGORITHMS:
            raise ValueError(message("strategy 'evotorch'", f"algorithm must be one of {', '.join(ALGORITHMS)}",
                                     algorithm=algorithm))
        if algorithm == "pgpe" and population % 2:
            raise ValueError(message("strategy 'evotorch'", "pgpe needs an even population", population=population))
        if algorithm == "cem" and population < 10:
            raise ValueError(message("strategy 'evotorch'", "cem needs a population of at least 10",
                                     population=population))
        self.algorithm, self.population, self.spread = algorithm, population, spread

    def begin(self, first: Tensor) -> None:
        self.library = self.module("evotorch.algorithms.functional")
        settings = ({"center_learning_rate": self.spread, "stdev_learning_rate": 0.1} if self.algorithm == "pgpe"
                    else {"parenthood_ratio": 0.2, "stdev_max_change": 0.2})
        self.optimizer = getattr(self.library, self.algorithm)(
            center_init=first, stdev_init=self.spread, objective_sense="min", **settings)

    def suggest(self) -> Tensor:
        scores: Tensor = getattr(self.library, f"{self.algorithm}_ask")(self.optimizer, popsize=self.population)
        self.scores = scores
        return scores

    def report(self, fitness: Tensor) -> None:
        self.optimizer = getattr(self.library, f"{self.algorithm}_tell")(self.optimizer, self.scores, fitness)
