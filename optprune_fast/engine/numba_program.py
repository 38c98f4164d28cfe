"""A program as the Numba kernels read it: a table of steps, a table of layers, and what both point into."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optprune_fast.plan.encoded import REDUCING, encoded
from optprune_fast.plan.program import ACTIVATIONS, OPS, Program, Step

Array = np.ndarray[Any, Any]

# Columns of the table of steps. A position in `constants` or `tables` is -1 where there is none.
OP, NARROW, LAYER, KIND, BIAS, EXTRA = range(6)
OUTER, OUTERS, INNER, INNERS = range(6, 10)  # where positions stand in `tables`, and how many
NUMBERS, MOST_NUMBERS, MOST_DIMS = 10, 8, 6
OUT, A, B = (NUMBERS + MOST_NUMBERS + i * (3 + 2 * MOST_DIMS) for i in range(3))
COLUMNS = B + 3 + 2 * MOST_DIMS
# Within a tensor: its shape and strides count registers.
SPACE, OFFSET, RANK, SHAPE, STRIDE = 0, 1, 2, 3, 3 + MOST_DIMS
NARROW_INPUT, WIDE_INPUT, IN_NARROW, IN_WIDE, CONSTANT = range(5)

# Columns of the table of layers; the last four say where a layer's part of a thread's lists begins.
(WEIGHT, ROWS, WIDTH, FIRST_WORD, OFFSETS, CONSUMERS, CONSUMER_COUNT, LIVE, START, KEPT, USED) = range(11)

# What the kernels read: arrays, the same for all candidates. sizes: width, then registers of narrow and wide memory,
# of a narrow and a wide tile of input, of `packed` and `strip`, then entries of all lists: live, start, kept, used.
Encoded = namedtuple("Encoded", "steps parameters layers consumers offsets constants tables sizes")


def encode(program: Program) -> Encoded:
    """The tables of a program for `width` registers of samples."""
    constants, tables = _Pool(np.float32), _Pool(np.int64)
    layers, consumers, offsets, lists = _layers(program, constants)
    steps = np.zeros((len(program.steps), COLUMNS), np.int64)
    for row, step in zip(steps, program.steps, strict=True):
        _step(row, step, program, constants, tables)
    parameters = np.array([[*step.activation[1], 0.0, 0.0][:2] for step in program.steps], np.float32)
    packed = max((layer.weight.shape[1] for layer in program.layers), default=1) * 8
    strip = max((2 * step.numbers[4] for step in program.steps if step.op == "conv2d"), default=1)
    width, size = program.width, program.sizes
    sizes = np.array([width, size["narrow"], size["wide"] * width, size["narrow_input"], size["wide_input"] * width,
                      packed, strip, *lists])
    return Encoded(steps, parameters, layers, consumers, offsets, constants.joined(), tables.joined(), sizes)


class _Pool:
    """Arrays one after another."""

    def __init__(self, dtype: type) -> None:
        self.dtype, self.size = dtype, 0
        self.parts: list[Array] = [np.zeros(0, dtype)]

    def add(self, numbers: Tensor | Array | None) -> int:
        """Where the numbers begin; -1 for none."""
        if numbers is None:
            return -1
        self.parts.append(np.asarray(numbers, self.dtype).ravel())
        self.size += self.parts[-1].size
        return self.size - self.parts[-1].size

    def joined(self) -> Array:
        return np.concatenate(self.parts)


def _layers(program: Program, constants: _Pool) -> tuple[Array, Array, Array, list[int]]:
    offsets, consumers = _Pool(np.int64), _Pool(np.int64)
    lists = [0, 0, 0, 0]
    rows = []
    for layer in program.layers:
        R, C = layer.weight.shape
        rows.append([constants.add(layer.weight), R, C, layer.first_word, offsets.add(layer.offsets),
                     consumers.add(np.array(layer.consumers, np.int64)), len(layer.consumers), *lists])
        more = (R, R + 1, R * C, -(-C // 64))
        lists = [have + add for have, add in zip(lists, more, strict=True)]
    table = np.array(rows, np.int64).reshape(len(rows), 11)
    return table, consumers.joined(), offsets.joined(), lists


def _step(row: Array, step: Step, program: Program, constants: _Pool, tables: _Pool) -> None:
    tensors = encoded(step, program)
    row[:6] = (OPS.index(step.op), step.narrow, step.layer, ACTIVATIONS.index(step.activation[0]),
               constants.add(step.bias), constants.add(step.extra))
    row[NUMBERS:NUMBERS + len(step.numbers)] = step.numbers
    for column, tensor in zip((OUT, A, B), tensors, strict=True):
        rank = tensor[2]
        row[column:column + 3 + rank] = tensor[:3 + rank]
        row[column + STRIDE:column + STRIDE + rank] = tensor[3 + rank:]
    outer, inner = _positions(step, *tensors)
    row[OUTER], row[OUTERS], row[INNER], row[INNERS] = tables.add(outer), len(outer), tables.add(inner), len(inner)


def _positions(step: Step, out: list[int], a: list[int], b: list[int]) -> tuple[Array, Array]:
    """[n, 3] positions in out, a and b: of what a step does one after another, and within each."""
    none = np.zeros((0, 3), np.int64)
    if step.op in ("linear", "conv2d", "max_pool", "avg_pool", "loss"):
        return none, none
    if step.op == "embedding":
        return _every(a, 0, a[2], (out, 1), (a, 0)), none
    if step.op not in REDUCING:
        return _every(out, 0, out[2] - 1, (out, 0), (a, 0), (b, 0)), none
    if step.op == "matmul":
        return _every(out, 0, out[2] - 2, (out, 0), (a, 0), (b, 0)), none
    dims = step.numbers[0] if step.numbers else 1
    kept = a[2] - dims
    inner = (a, kept) if step.op == "mean" else (out, kept)
    return _every(a, 0, kept, (out, 0), (a, 0)), _every(a, kept, a[2], inner, (a, kept))


def _every(shape: list[int], first: int, end: int, *tensors: tuple[list[int], int]) -> Array:
    """Positions of every element of dimensions first … end of `shape`, in tensors where those begin at `start`."""
    columns = []
    for tensor, start in tensors:
        at = np.zeros(1, np.int64)
        for d in range(end - first):
            stride = tensor[3 + tensor[2] + start + d]
            at = (at[:, None] + np.arange(shape[3 + first + d]) * stride).ravel()
        columns.append(at)
    columns += [columns[-1]] * (3 - len(columns))
    return np.stack(columns, axis=1)


def words_array(words: Tensor) -> Array:
    """Packed masks [P, W] as unsigned words."""
    return words.contiguous().numpy().view(np.uint64)


def floats(tensor: Tensor | None) -> Array:
    return np.zeros(0, np.float32) if tensor is None else tensor.detach().to(torch.float32).contiguous().numpy().ravel()
