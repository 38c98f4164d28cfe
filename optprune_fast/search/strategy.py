"""The protocol of a search: ask for masks or moves, tell their fitness."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.search.problem import Problem


class OnPart(NamedTuple):
    """A question of moves that only a part of the calibration data answers, for the strategy's own use.

    Each move counts as an evaluation, however small the part is; none of them can become the run's result before it
    is asked about on all data.
    """

    parent: PackedMasks
    moves: Tensor
    part: Evaluator


Ask = PackedMasks | tuple[PackedMasks, Tensor] | OnPart


class Strategy(ABC):
    """A search. `start` once; then `ask`, `tell`, `ask`, `tell`, …

    Whatever is asked for must keep the budget and the core: the run checks it and names the strategy otherwise.
    All randomness comes from `masks.operators.candidate_seeds` or from a `torch.Generator` that is an attribute, so
    that a seed repeats a run bit for bit, and so does a run that goes on after it was stopped (`state`).

    progress: share of the limits that is used up, in [0, 1], set by the run before each `ask`: for schedules
    derived:  attributes that `start` makes anew, which `state` leaves out
    """

    name: str
    progress: float = 0.0
    derived: ClassVar[frozenset[str]] = frozenset({"problem"})

    @abstractmethod
    def start(self, problem: Problem) -> None:
        """Get ready for a problem; the fitness of the mask that it starts from is asked for like any other."""

    @abstractmethod
    def ask(self) -> Ask | None:
        """Masks to evaluate, or `(parent, moves)` with moves int64 [M, F], or moves `OnPart` of the data; None if
        nothing is left to try."""

    @abstractmethod
    def tell(self, fitness: Tensor) -> None:
        """Fitness of what was asked for last, float [P] or [M], lower is better; `inf` for a NaN."""

    def knobs(self) -> dict[str, Any]:
        """How it was set up, called before `start`: two with equal knobs search alike."""
        return dict(vars(self))

    def state(self) -> dict[str, Any]:
        """All that the next `ask` depends on: attributes of tensors, masks, generators, numbers, texts, and lists,
        tuples and dicts of these."""
        return {name: value for name, value in vars(self).items() if name not in self.derived}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`; called after `start`."""
        vars(self).update(state)
