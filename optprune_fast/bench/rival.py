"""What a rival is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from optprune_fast.bench.problem import Masks, Problem

Fitness = Callable[[Masks], Tensor]


@dataclass(frozen=True)
class Prepared:
    """A rival at work on one problem. fitness: [P] losses of a population; detail: what it chose, if anything."""

    fitness: Fitness
    detail: str = ""


def takes_all(problem: Problem) -> str | None:
    return None


@dataclass(frozen=True)
class Rival:
    """A way to evaluate a population of masks.

    ours:      whether it is this package
    prepare:   (problem, example masks) -> Prepared; not timed: snapshots, compilation, choice of a chunk
    declines:  why it cannot take a problem, or None; anything else that goes wrong is an error
    slow_start: preparing takes many seconds
    """

    name: str
    prepare: Callable[[Problem, Masks], Prepared]
    ours: bool = False
    declines: Callable[[Problem], str | None] = takes_all
    slow_start: bool = False
