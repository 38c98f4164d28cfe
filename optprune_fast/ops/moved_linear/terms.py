"""What the kernels of moved_linear are given, for the engine, which makes it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Terms(NamedTuple):
    """What moves add to the sums of a layer, as `moved_linear` takes it."""

    units: Tensor
    unit_starts: Tensor
    changes: Tensor
    rows: Tensor
    row_starts: Tensor
    factors: Tensor
    inputs: Tensor

    @property
    def moves(self) -> int:
        return len(self.unit_starts) - 1


class Entries(NamedTuple):
    """Rows of a layer, each with the flips that it has, those between `firsts` and `ends`.

    rows, firsts, ends:  int64 [T];   places: int64 [K], columns of the flips;   factors: float32 [K], as in `Terms`
    """

    rows: Tensor
    firsts: Tensor
    ends: Tensor
    places: Tensor
    factors: Tensor


class Next(NamedTuple):
    """A last layer behind the moved one, under the mask of each move.

    weight: [classes, width];   words: int64 [M, classes, ⌈width/64⌉];   bias: [classes] or None
    precision: how it multiplies
    """

    weight: Tensor
    words: Tensor
    bias: Tensor | None
    precision: str
