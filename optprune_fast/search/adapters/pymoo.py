"""Genetic algorithm, differential evolution and particle swarm of pymoo."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.runtime.errors import message
from optprune_fast.search.adapters.library import LibraryStrategy

ALGORITHMS = {"ga": "GA", "de": "DE", "pso": "PSO"}


class Pymoo(LibraryStrategy):
    """A single-objective algorithm of pymoo on latent scores.

    algorithm:   "ga", "de" or "pso"
    population:  candidates of a generation
    """

    name = "pymoo"
    install = "pymoo"

    def __init__(self, algorithm: str = "ga", population: int = 50) -> None:
        if algorithm not in ALGORITHMS:
            raise ValueError(message("strategy 'pymoo'", f"algorithm must be one of {', '.join(ALGORITHMS)}",
                                     algorithm=algorithm))
        self.algorithm, self.population = algorithm, population

    def begin(self, first: Tensor) -> None:
        kind = getattr(self.module(f"pymoo.algorithms.soo.nonconvex.{self.algorithm}"), ALGORITHMS[self.algorithm])
        self.box = self.module("pymoo.core.problem").Problem(
            n_var=len(first), n_obj=1, xl=-1.0, xu=float(first.max()) + 1)
        population = self.around_first(self.population).double().cpu().clamp(self.box.xl[0], self.box.xu[0])
        self.optimizer = kind(pop_size=self.population, sampling=population.numpy())
        self.optimizer.setup(self.box, seed=self.problem.seed & 0xFFFFFFFF, verbose=False,
                             termination=self.module("pymoo.core.termination").NoTermination())

    def suggest(self) -> Tensor:
        self.candidates = self.optimizer.ask()
        return torch.from_numpy(self.candidates.get("X").astype("float64"))

    def report(self, fitness: Tensor) -> None:
        known = self.module("pymoo.problems.static").StaticProblem(self.box, F=fitness[:, None].numpy())
        self.module("pymoo.core.evaluator").Evaluator().eval(known, self.candidates)
        self.optimizer.tell(infills=self.candidates)
