"""CMA-ES of pycma, with a diagonal covariance."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from optprune_fast.runtime.errors import message
from optprune_fast.search.adapters.library import LibraryStrategy

LIMIT = 100_000  # open weights; a generation takes about a second there


class Cma(LibraryStrategy):
    """Separable CMA-ES: a deviation for each score, no covariances, which would be `m²` numbers.

    population:  candidates of a generation
    spread:      first deviation of the scores, in standard deviations of `|w|`
    """

    name = "cma"
    install = "optprune-fast[cma]"

    def __init__(self, population: int = 30, spread: float = 0.3) -> None:
        self.population, self.spread = population, spread

    def begin(self, first: Tensor) -> None:
        if len(first) > LIMIT:
            raise ValueError(message("strategy 'cma'", f"at most {LIMIT} weights can be open to CMA-ES",
                                     "lower pool= or small=, or choose another strategy", open=len(first)))
        options = {"CMA_diagonal": True, "popsize": self.population, "seed": np.nan, "verbose": -9, "verb_log": 0}
        self.optimizer = self.module("cma").CMAEvolutionStrategy(first.numpy(), self.spread, options)

    def suggest(self) -> Tensor:
        self.scores = self.optimizer.ask()
        return torch.from_numpy(np.stack(self.scores))

    def report(self, fitness: Tensor) -> None:
        self.optimizer.tell(self.scores, fitness.tolist())
