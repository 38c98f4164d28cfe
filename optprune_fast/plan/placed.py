"""Where the numbers of a value lie in a tile: strides, so that a permutation or a slice costs nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

Space = Literal["narrow_input", "wide_input", "narrow", "wide", "constant"]
SAME_SETS, GAP = 16, 2  # rows of a multiple of 16 registers lie in the same sets; a cache line is two of AVX2's


@dataclass(eq=False)
class Buffer:
    """Memory of one value, in registers of samples; of a constant, in floats.

    border:  (C, H, W, padding) of a picture with a border of zeros, which only a picture of the same kind may reuse;
             with the number of bands where the border holds rows of neighbouring ones
    first, last:  steps between which it is needed
    """

    space: Space
    size: int
    border: tuple[int, ...] | None = None
    first: int = 0
    last: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Placed:
    """A value in a buffer: shape without the batch, strides and offset in registers.

    >>> contiguous(Buffer("narrow", 6), (2, 3)).permute((1, 0)).strides
    (1, 3)
    """

    buffer: Buffer
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def narrow(self) -> bool:
        return self.buffer.space in ("narrow", "narrow_input")

    def permute(self, dims: tuple[int, ...]) -> Placed:
        return replace(self, shape=tuple(self.shape[d] for d in dims), strides=tuple(self.strides[d] for d in dims))

    def slice(self, dim: int, start: int, length: int, step: int) -> Placed:
        shape, strides = list(self.shape), list(self.strides)
        shape[dim], strides[dim] = length, strides[dim] * step
        return replace(self, shape=tuple(shape), strides=tuple(strides), offset=self.offset + start * self.strides[dim])

    def reshape(self, shape: tuple[int, ...]) -> Placed | None:
        """The same numbers under another shape, or None where strides cannot say it."""
        strides = _view_strides(self.shape, self.strides, shape)
        return None if strides is None else replace(self, shape=shape, strides=strides)

    def expand(self, shape: tuple[int, ...]) -> Placed:
        """Broadcast to `shape`: new and stretched dimensions have stride 0."""
        missing = len(shape) - len(self.shape)
        old = (1,) * missing + self.shape
        strides = (0,) * missing + self.strides
        return replace(self, shape=shape, strides=tuple(
            0 if had == 1 and want != 1 else s for had, want, s in zip(old, shape, strides, strict=True)))

    def is_contiguous(self) -> bool:
        return all(n == 1 or have == want
                   for n, have, want in zip(self.shape, self.strides, row_major(self.shape), strict=True))


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a contiguous array.

    >>> row_major((2, 3, 4))
    (12, 4, 1)
    """
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def contiguous(buffer: Buffer, shape: tuple[int, ...]) -> Placed:
    return Placed(buffer, shape, row_major(shape))


def in_order(buffer: Buffer, shape: tuple[int, ...], order: tuple[int, ...], run: int = 0) -> Placed:
    """Memory whose dimensions lie in `order`, outermost first: contiguous, or rows of the last `run` dimensions.

    Rows a power of two apart would fight for the same few sets of a cache, so a gap of two registers follows each.

    >>> in_order(Buffer("narrow", 0), (3, 32), (0, 1), 1).strides
    (34, 1)
    """
    sizes = [shape[d] for d in order]
    steps = list(row_major(tuple(sizes)))
    row = prod(sizes[len(sizes) - run:])
    if run and row % SAME_SETS == 0:
        for k in range(len(steps) - run):
            steps[k] = steps[k] // row * (row + GAP)
    strides = dict(zip(order, steps, strict=True))
    return Placed(buffer, shape, tuple(strides[d] for d in range(len(shape))))


def picture(buffer: Buffer) -> Placed:
    """The picture inside the border of a buffer that has one.

    >>> picture(Buffer("narrow", 24, (1, 2, 4, 1, 1))).offset
    7
    """
    assert buffer.border is not None
    C, H, W, pad_y, pad_x = buffer.border[:5]
    row = W + 2 * pad_x
    return Placed(buffer, (C, H, W), ((H + 2 * pad_y) * row, row, 1), pad_y * row + pad_x)


def order_of(placed: Placed) -> tuple[int, ...]:
    """Dimensions by stride, outermost first."""
    return tuple(sorted(range(len(placed.shape)), key=lambda d: (-placed.strides[d], d)))


def _view_strides(shape: tuple[int, ...], strides: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...] | None:
    """Split `shape` into runs of dimensions that are one after the other in memory, and cut the runs anew."""
    runs: list[tuple[int, int]] = []  # (elements, stride of the innermost)
    for size, stride in zip(shape, strides, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][1] == stride * size:
            runs[-1] = (runs[-1][0] * size, stride)
        else:
            runs.append((size, stride))
    out: list[int] = []
    place = len(runs) - 1
    left, step = runs[place] if runs else (1, 1)
    for size in reversed(new):
        if size == 1:
            out.append(step)
            continue
        if left == 1:
            place -= 1
            if place < 0:
                return None
            left, step = runs[place]
        if left % size:
            return None
        out.append(step)
        left, step = left // size, step * size
    return tuple(reversed(out))
