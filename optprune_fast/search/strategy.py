"""The protocol of a search: ask for masks or moves, tell their fitness."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from optprune_fast.masks.packed import PackedMasks
from optprune_fast.search.problem import Problem

Ask = PackedMasks | tuple[PackedMasks, Tensor]


class Strategy(ABC):
    """A search. `start` once; then `ask`, `tell`, `ask`, `tell`, …

    Whatever is asked for must keep the budget and the core: the run checks it and names the strategy otherwise.
    All randomness comes from `masks.operators.candidate_seeds`, so that a seed repeats a run bit for bit.
    """

    name: str

    @abstractmethod
    def start(self, problem: Problem) -> None:
        """Get ready for a problem; the fitness of its magnitude mask is asked for like any other."""

    @abstractmethod
    def ask(self) -> Ask | None:
        """Masks to evaluate, or `(parent, moves)` with moves int64 [M, F]; None if nothing is left to try."""

    @abstractmethod
    def tell(self, fitness: Tensor) -> None:
        """Fitness of what was asked for last, float [P] or [M], lower is better; `inf` for a NaN."""
