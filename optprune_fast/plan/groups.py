"""Positions that outgrow the second-level cache: steps that treat each alone take turns, some positions at a time.

    layer_norm   positions 0 … 7    8 … 15    …     each of these steps makes a position of what it writes
    linear       positions 0 … 7    8 … 15    …     from the same position of what it reads
    linear       positions 0 … 7    8 … 15    …

So a step reads what the one before it has just written, and of a value between them there never is more than a group. A
linear layer reads a group where it lies, and need not pack it. Every output is the sum that it was: no bit changes.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch

from optprune_fast.plan.placed import Buffer, Placed
from optprune_fast.plan.program import Program, Run, Step

GROUP = 8       # positions: as many registers as a weight of a linear layer serves at once
CACHED = 16384  # registers: a second-level cache of 1 MiB under AVX-512, of 512 KiB under AVX2
POINTWISE = {"activation", "add", "sub", "mul", "scale"}
View = tuple[int, int, list[tuple[int, int]]]


def in_groups(program: Program, index: int) -> list[Run]:
    """The steps from `index` on that take turns, group by group; none where they cannot or should not.

    Values that are never whole get smaller buffers: memory must not be assigned yet.
    """
    chain = _Chain(program, index)
    return chain.runs() if chain.should() else []


class _Chain:
    """The longest run of steps from `first` on that treat every position alone.

    cuts:   of each step, the dimension of its tensors that positions lie in
    views:  how each value is read and written: one way for all of these steps, or one might meet another's positions
    """

    def __init__(self, program: Program, first: int) -> None:
        self.program, self.first = program, first
        self.cuts: list[int] = []
        self.views: dict[Buffer, View] = {}
        while self._takes_next():
            pass
        self.steps = program.steps[first:first + len(self.cuts)]
        self.positions = _positions(self.steps[0], self.cuts[0]) if self.steps else 0

    def _takes_next(self) -> bool:
        steps, index = self.program.steps, self.first + len(self.cuts)
        cut, views = _cut(steps[index]), dict(self.views)
        if cut is None or (self.cuts and _positions(steps[index], cut) != _positions(steps[self.first], self.cuts[0])):
            return False
        if not all(views.setdefault(placed.buffer, _view(placed, cut)) == _view(placed, cut)
                   for placed in _touched(steps[index])):
            return False
        self.cuts.append(cut)
        self.views = views
        return True

    def should(self) -> bool:
        return self.positions > GROUP and sum(b.size for b in self.views) > CACHED and len(self._between()) > 0

    def _between(self) -> set[Buffer]:
        """The values that only these steps know."""
        end = self.first + len(self.steps)
        known = {placed.buffer for step in (*self.program.steps[:self.first], *self.program.steps[end:])
                 for placed in _touched(step)}
        return {buffer for buffer, (_, stride, _) in self.views.items()
                if buffer not in known and buffer.space == "narrow" and buffer.border is None and stride == 1}

    def runs(self) -> list[Run]:
        rooms = self._make_room()
        for step in self.steps:
            if step.op == "linear":
                self._offset_columns(step, rooms)
        return [(self.first + k, _part(step, cut, start, min(GROUP, self.positions - start), rooms))
                for start in range(0, self.positions, GROUP)
                for k, (step, cut) in enumerate(zip(self.steps, self.cuts, strict=True))]

    def _make_room(self) -> dict[Buffer, Buffer]:
        """Room for a group instead of for the whole value; the other values are needed until the last turn."""
        rooms = {buffer: Buffer("narrow", self._features(buffer) * GROUP, None, buffer.first, buffer.last)
                 for buffer in self._between()}
        self.program.buffers[:] = [rooms.get(buffer, buffer) for buffer in self.program.buffers]
        for buffer in self.views.keys() - rooms.keys():
            buffer.first = min(buffer.first, self.first)
            buffer.last = max(buffer.last, self.first + len(self.steps) - 1)
        return rooms

    def _features(self, buffer: Buffer) -> int:
        return prod(size for _, size in self.views[buffer][2]) // self.positions

    def _offset_columns(self, step: Step, rooms: dict[Buffer, Buffer]) -> None:
        layer = self.program.layers[step.layer]
        row = _group(step.a, 1, 0, GROUP, rooms).strides[0]
        self.program.layers[step.layer] = replace(layer, offsets=row * torch.arange(layer.weight.shape[1]))


def _cut(step: Step) -> int | None:
    """The dimension that positions lie in; None where a step does not treat them alone."""
    if not step.narrow or len(step.out.shape) != 2:
        return None
    if step.op == "linear" or step.op in POINTWISE:
        return 1
    return 0 if step.op == "layer_norm" and step.numbers == (1,) else None


def _touched(step: Step) -> list[Placed]:
    return [placed for placed in (step.out, step.a, step.b) if placed is not None and placed.buffer.space != "constant"]


def _positions(step: Step, cut: int) -> int:
    return step.out.shape[cut]


def _view(placed: Placed, cut: int) -> View:
    """Where the positions of a value lie: equal views differ by a permutation."""
    return placed.offset, placed.strides[cut], sorted(zip(placed.strides, placed.shape, strict=True))


def _part(step: Step, cut: int, start: int, count: int, rooms: dict[Buffer, Buffer]) -> Step:
    out, a, b = (None if placed is None else _group(placed, cut, start, count, rooms)
                 for placed in (step.out, step.a, step.b))
    assert out is not None
    assert a is not None
    return replace(step, out=out, a=a, b=b)


def _group(placed: Placed, cut: int, start: int, count: int, rooms: dict[Buffer, Buffer]) -> Placed:
    """Positions start … start + count, side by side where there is room for a group alone."""
    if placed.buffer not in rooms:
        return placed.slice(cut, start, count, 1)
    shape, strides = list(placed.shape), [GROUP, GROUP]
    shape[cut], strides[cut] = count, 1
    return Placed(rooms[placed.buffer], tuple(shape), tuple(strides))
