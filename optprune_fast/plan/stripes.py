"""Pictures that outgrow the second-level cache: two convolutions take turns, a stripe of rows at a time.

    first    rows 0 … 4     rows 5 … 8     …     between them lie the rows of a stripe, and those above it that
    second   rows 0 … 3     rows 4 … 7     …     the next stripe reads as well: these move up

So the second one reads what the first has just written, and the picture between them never is whole. Every output is
the sum that it was: no bit changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from optprune_fast.plan.placed import Buffer, Placed, picture
from optprune_fast.plan.program import Program, Run, Step

STRIPES = (8, 4)  # rows, as many as ROOM holds: whole patches, and whole pairs where a 2x2 maximum follows
CACHED = 16384    # registers: a second-level cache of 1 MiB under AVX-512, of 512 KiB under AVX2
ROOM = CACHED * 3 // 8
NOTHING = (0, 0, 0, 0, 0)  # the border of a register that nobody writes


def in_stripes(program: Program, index: int) -> list[Run]:
    """The parts of the two convolutions from `index` on; none where they cannot take turns or should not.

    The picture between them gets a smaller buffer: memory must not be assigned yet.
    """
    if [step.op for step in program.steps[index:index + 2]] != ["conv2d", "conv2d"]:
        return []
    pair = _Pair(program, index)
    should = pair.can() and sum(buffer.size for buffer in pair.buffers()) > CACHED
    return pair.runs() if should else []


class _Pair:
    """Two convolutions, one after the other. Rows are those of the picture between them, with the rows of zeros above
    it that the second one reads (`above`); it reads `reach` rows more than it writes."""

    def __init__(self, program: Program, index: int) -> None:
        self.program, self.index = program, index
        self.first, self.second = program.steps[index:index + 2]
        self.channels, self.height, self.width = self.first.out.shape
        self.above = _above(program, self.second)
        self.rows = self.second.numbers[3]
        self.reach = self.height + 2 * self.above - self.rows
        self.border = 0 if self.first.out.buffer.border is None else self.first.out.buffer.border[4]
        self.stripe = next((rows for rows in STRIPES if self._room(rows) <= ROOM), STRIPES[-1])

    def _room(self, stripe: int) -> int:
        return self.channels * (stripe + self.reach) * (self.width + 2 * self.border)

    def buffers(self) -> set[Buffer]:
        return {placed.buffer for step in (self.first, self.second) for placed in (step.out, step.a, step.b)
                if placed is not None}

    def can(self) -> bool:
        between, second = self.first.out, self.second
        others = [step for step in self.program.steps if step is not self.first and step is not second]
        if second.a != between or second.numbers[0] != 1 or not self.above <= self.reach <= self.stripe < self.rows:
            return False
        if any(placed is not None and placed.buffer is between.buffer
               for placed in (second.b, *(p for step in others for p in (step.out, step.a, step.b)))):
            return False
        # Where the second writes over the input of the first, this must be done with the rows.
        return second.out.buffer is not self.first.a.buffer or (
            self.first.numbers[0] == 1 and self.reach - self.above >= _above(self.program, self.first))

    def runs(self) -> list[Run]:
        lines, nought = self._make_room()
        return [(self.index + (step.layer != self.first.layer), step)
                for start in range(0, self.rows, self.stripe) for step in self._stripe(start, lines, nought)]

    def _make_room(self) -> tuple[Placed, Placed]:
        """Room for the rows of a stripe, instead of for the whole picture; a zero for as many rows as are wanted."""
        program, old = self.program, self.first.out
        border = (self.channels, self.stripe + self.reach, self.width, 0, self.border)
        room = Buffer("narrow", self._room(self.stripe), border, self.index, self.index + 1)
        nought = Buffer("narrow", 1, NOTHING, self.index, self.index + 1)
        program.buffers[:] = [*(buffer for buffer in program.buffers if buffer is not old.buffer), room, nought]
        for buffer in self.buffers():
            buffer.first, buffer.last = min(buffer.first, self.index), max(buffer.last, self.index + 1)
        layer, lines = program.layers[self.second.layer], picture(room)
        taps = layer.weight.shape[1] * self.second.numbers[2] // self.channels
        channel = torch.arange(layer.weight.shape[1]) // taps
        program.layers[self.second.layer] = replace(
            layer, offsets=layer.offsets + channel * (lines.strides[0] - old.strides[0]))
        return lines, Placed(nought, lines.shape, (0, 0, 0))

    def _stripe(self, start: int, lines: Placed, nought: Placed) -> Iterator[Step]:
        """Rows start … start + stripe of the second one, and of the first what they read beyond the stripe before."""
        end = min(start + self.stripe, self.rows)
        new, below, bottom = start + self.reach if start else 0, end + self.reach, self.above + self.height

        def room(low: int, high: int) -> Placed:
            return _rows(lines, low - start, high - low)

        if start:
            yield Step("activation", True, room(start, new), _rows(lines, self.stripe, self.reach), name="move up")
        for low, high in ((new, min(below, self.above)), (max(new, bottom), below)):
            if low < high:
                yield Step("activation", True, room(low, high), _rows(nought, 0, high - low), name="border")
        low, high = max(new, self.above), min(below, bottom)
        if low < high:
            side = 1 + self.first.numbers[6]
            part = _part(self.first, side * (low - self.above), side * (high - low))
            yield replace(part, out=room(low, high))
        yield replace(_part(self.second, start, end - start), a=room(start + self.above, end + self.above))


def _above(program: Program, step: Step) -> int:
    """Rows above an output's own that a convolution reads: what its first column lies before it."""
    before = -int(program.layers[step.layer].offsets[0])
    return max(0, before // step.a.strides[1])


def _rows(placed: Placed, start: int, count: int) -> Placed:
    return placed.slice(1, start, count, 1)


def _part(step: Step, start: int, count: int) -> Step:
    """Rows start … start + count of what a convolution computes, before a maximum."""
    side, n = 1 + step.numbers[6], step.numbers
    return replace(step, out=_rows(step.out, start // side, count // side), a=_rows(step.a, start * n[0], count * n[0]),
                   b=None if step.b is None else _rows(step.b, start, count), numbers=(*n[:3], count, *n[4:]))
