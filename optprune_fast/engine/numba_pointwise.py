"""Steps that treat every number alone, in Numba, and where the numbers of a step lie."""

from __future__ import annotations

from typing import Any

from optprune_fast.engine import numba_math as own
from optprune_fast.engine.numba_program import (
    BIAS,
    CONSTANT,
    EXTRA,
    IN_NARROW,
    KIND,
    NARROW_INPUT,
    OFFSET,
    OP,
    OUT,
    OUTER,
    OUTERS,
    RANK,
    SHAPE,
    SPACE,
    STRIDE,
    WIDE_INPUT,
    A,
    B,
)
from optprune_fast.engine.numba_vectors import LANES
from optprune_fast.ops.numba_support import called, fma

ADD, SUB, MUL, SCALE = 3, 4, 5, 6  # in OPS


@called
def memory(tile: Any, tensor: Any) -> Any:
    """The array that a tensor of registers lies in."""
    space = tensor[SPACE]
    if space == NARROW_INPUT:
        return tile.narrow_input
    if space == WIDE_INPUT:
        return tile.wide_input
    return tile.narrow if space == IN_NARROW else tile.wide


@called
def copy(to: Any, place: Any, x: Any, at: Any, floats: Any) -> Any:
    """A loop: between slices Numba would compile its error for shapes that differ, which takes longer than the rest."""
    for i in range(floats):
        to[place + i] = x[at + i]


@called
def positions(program: Any, table: Any, k: Any) -> Any:
    """(in out, in a, in b) of the k-th entry of a table."""
    at = table + 3 * k
    return program.tables[at], program.tables[at + 1], program.tables[at + 2]


@called
def activate(kind: Any, parameters: Any, x: Any) -> Any:
    """An activation in place; kinds are numbered as in ACTIVATIONS."""
    n = len(x)
    if kind == 1:
        for i in range(n):
            x[i] = own.largest(own.ZERO, x[i])
    elif kind == 2:
        for i in range(n):
            x[i] = own.clamp(x[i], own.ZERO, own.SIX)
    elif kind == 3:
        for i in range(n):
            x[i] = x[i] * parameters[0] if x[i] < own.ZERO else x[i]
    elif kind == 4:
        for i in range(n):
            x[i] = own.elu(x[i], parameters[0])
    elif kind == 5:
        for i in range(n):
            x[i] = own.gaussian_unit(x[i])
    elif kind == 6:
        for i in range(n):
            x[i] = own.gelu_tanh(x[i])
    elif kind == 7:
        for i in range(n):
            x[i] = own.unit(x[i]) * own.logistic(x[i])
    elif kind == 8:
        for i in range(n):
            x[i] = own.logistic(x[i])
    elif kind == 9:
        for i in range(n):
            x[i] = own.hyperbolic_tangent(x[i])
    elif kind == 10:
        for i in range(n):
            x[i] *= own.hardsigmoid(x[i])
    elif kind == 11:
        for i in range(n):
            x[i] = own.hardsigmoid(x[i])
    elif kind == 12:
        for i in range(n):
            x[i] = own.clamp(x[i], parameters[0], parameters[1])


@called
def read(program: Any, tile: Any, tensor: Any, constants: Any, i: Any, n: Any, step: Any, to: Any) -> Any:
    """n registers of a tensor, or the same float for all samples, side by side."""
    if tensor[SPACE] == CONSTANT:
        for k in range(n):
            to[k * LANES:(k + 1) * LANES] = program.constants[constants + tensor[OFFSET] + i + k * step]
        return
    x, first = memory(tile, tensor), (tensor[OFFSET] + i) * LANES
    if step == 1:
        copy(to, 0, x, first, n * LANES)
        return
    for k in range(n):
        copy(to, k * LANES, x, first + k * step * LANES, LANES)


@called
def combine(op: Any, x: Any, y: Any) -> Any:
    if op == ADD:
        for i in range(len(x)):
            x[i] += y[i]
    elif op == SUB:
        for i in range(len(x)):
            x[i] -= y[i]
    else:
        for i in range(len(x)):
            x[i] *= y[i]


@called
def pointwise(program: Any, tile: Any, step: Any, parameters: Any) -> Any:
    last = step[OUT + RANK] - 1
    n, so = step[OUT + SHAPE + last], step[OUT + STRIDE + last]
    sa, sb = step[A + STRIDE + last], step[B + STRIDE + last]
    to, op = memory(tile, step[OUT:]), step[OP]
    extra = step[EXTRA]
    for k in range(step[OUTERS]):
        o, i, j = positions(program, step[OUTER], k)
        for first in range(0, n, LANES):  # as many registers at a time as `line` holds
            some = min(LANES, n - first)
            x, y = tile.line[0, :some * LANES], tile.line[1, :some * LANES]
            read(program, tile, step[A:], step[BIAS], i + first * sa, some, sa, x)
            if op == SCALE:
                factor, shift = program.constants[extra], program.constants[extra + 1]
                for lane in range(some * LANES):
                    x[lane] = fma(x[lane], factor, shift)
            elif op >= ADD:
                read(program, tile, step[B:], extra, j + first * sb, some, sb, y)
                combine(op, x, y)
            activate(step[KIND], parameters, x)
            for r in range(some):
                copy(to, (step[OUT + OFFSET] + o + (first + r) * so) * LANES, x, r * LANES, LANES)


@called
def widen(program: Any, tile: Any, step: Any) -> Any:
    """One register of samples becomes one column of the wide tile."""
    last = step[OUT + RANK] - 1
    n, so, sa = step[OUT + SHAPE + last], step[OUT + STRIDE + last], step[A + STRIDE + last]
    to, x = memory(tile, step[OUT:]), memory(tile, step[A:])
    for k in range(step[OUTERS]):
        o, i, _ = positions(program, step[OUTER], k)
        for r in range(n):
            copy(to, (step[OUT + OFFSET] + o + r * so + tile.column) * LANES, x,
                 (step[A + OFFSET] + i + r * sa) * LANES, LANES)
