"""What the adapters share: asking another library's optimizer for latent scores, repeatably."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optprune_fast.masks.operators import candidate_seeds
from optprune_fast.runtime.errors import message
from optprune_fast.search.latent import LatentStrategy
from optprune_fast.search.problem import Problem

WORST = 1e30  # what an optimizer is told instead of infinity, which some subtract


class LibraryStrategy(LatentStrategy):
    """Latent scores from an optimizer of another library, after the mask that the search starts from.

    `begin` makes `self.optimizer`; `suggest` float [P, m] and `report` their fitness. Each runs under a seed of its
    own, so telling the same fitness again leads to the same questions again. It lives on the CPU.
    """

    install: str  # what to give to pip

    def start(self, problem: Problem) -> None:
        super().start(problem)
        self.told: list[Tensor] = []
        if not problem.fixed:
            with self._seeded(0):
                self.begin(self.first.double().cpu())

    def propose(self) -> Tensor:
        if self.generation == 0:
            return self.first[None]
        with self._seeded(1):
            return self.suggest()

    def learn(self, fitness: Tensor) -> None:
        self.told.append(fitness)
        if self.generation:
            with self._seeded(2):
                self.report(fitness.double().cpu().clamp(max=WORST))

    def state(self) -> dict[str, Any]:
        """What it was told: the optimizer is brought back by telling it again."""
        return {"told": list(self.told)}

    def restore(self, state: dict[str, Any]) -> None:
        for fitness in state["told"]:
            self.ask()
            self.tell(fitness)

    @abstractmethod
    def begin(self, first: Tensor) -> None:
        """Make the optimizer, to start at these scores, float64 [m]."""

    @abstractmethod
    def suggest(self) -> Tensor:
        """Scores of the next candidates, float [P, m]."""

    @abstractmethod
    def report(self, fitness: Tensor) -> None:
        """Fitness of what was suggested last, float64 [P]."""

    def module(self, name: str) -> Any:
        """The library's module of this name; a library that is missing is an error that says how to get it."""
        package = name.partition(".")[0]
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise ImportError(message(f"strategy {self.name!r}", f"it needs the package {package}",
                                      f"pip install {self.install}")) from error
        return importlib.import_module(name)

    @contextmanager
    def _seeded(self, step: int) -> Iterator[None]:
        """The global generators start from a seed of this step of this generation, and are put back afterwards."""
        seed = int(candidate_seeds(self.problem.seed, self.generation, step + 1)[step])
        before = np.random.get_state()  # noqa: NPY002  # the libraries draw from it
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002
            try:
                yield
            finally:
                np.random.set_state(before)  # noqa: NPY002
