"""Steps that combine numbers of one sample, in Numba: pooling, means, softmax, normalisation, products, tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from optprune_fast.engine import numba_math as own
from optprune_fast.engine.numba_pointwise import activate, memory, positions
from optprune_fast.engine.numba_program import (
    BIAS,
    EXTRA,
    INNER,
    INNERS,
    KIND,
    NUMBERS,
    OFFSET,
    OP,
    OUT,
    OUTER,
    OUTERS,
    RANK,
    SHAPE,
    STRIDE,
    A,
    B,
)
from optprune_fast.engine.numba_vectors import LANES
from optprune_fast.ops.numba_support import called, fma

MAX_POOL, LOG_SOFTMAX = 7, 11  # in OPS


@called
def pool(tile: Any, step: Any, parameters: Any) -> Any:
    kernel_h, kernel_w, y_by, x_by = step[NUMBERS], step[NUMBERS + 1], step[NUMBERS + 2], step[NUMBERS + 3]
    pad_y, pad_x, counts = step[NUMBERS + 4], step[NUMBERS + 5], step[NUMBERS + 6]
    H, W, largest = step[A + SHAPE + 1], step[A + SHAPE + 2], step[OP] == MAX_POOL
    a, out = memory(tile, step[A:]), memory(tile, step[OUT:])
    for y in range(step[OUT + SHAPE + 1]):
        y0 = y * y_by - pad_y
        top, bottom = max(y0, 0), min(y0 + kernel_h, H)
        for x in range(step[OUT + SHAPE + 2]):
            x0 = x * x_by - pad_x
            left, right = max(x0, 0), min(x0 + kernel_w, W)
            # The part of the padding that torch counts: what lies inside the padded picture.
            padded = (min(y0 + kernel_h, H + pad_y) - y0) * (min(x0 + kernel_w, W + pad_x) - x0)
            count = np.float32(padded if counts else (bottom - top) * (right - left))
            for c in range(step[OUT + SHAPE]):
                at = (step[OUT + OFFSET] + c * step[OUT + STRIDE] + y * step[OUT + STRIDE + 1]
                      + x * step[OUT + STRIDE + 2]) * LANES
                total = out[at:at + LANES]
                total[:] = -own.INFINITY if largest else own.ZERO
                for i in range(top, bottom):
                    for j in range(left, right):
                        begin = (step[A + OFFSET] + c * step[A + STRIDE] + i * step[A + STRIDE + 1]
                                 + j * step[A + STRIDE + 2]) * LANES
                        for lane in range(LANES):
                            v = a[begin + lane]
                            total[lane] = own.largest(total[lane], v) if largest else total[lane] + v
                if not largest:
                    for lane in range(LANES):
                        total[lane] /= count
                activate(step[KIND], parameters, total)


@called
def mean(program: Any, tile: Any, step: Any, parameters: Any) -> Any:
    a, out = memory(tile, step[A:]), memory(tile, step[OUT:])
    count = np.float32(step[INNERS])
    for k in range(step[OUTERS]):
        o, i, _ = positions(program, step[OUTER], k)
        at = (step[OUT + OFFSET] + o) * LANES
        total = out[at:at + LANES]
        total[:] = own.ZERO
        for e in range(step[INNERS]):
            _, inner, _ = positions(program, step[INNER], e)
            begin = (step[A + OFFSET] + i + inner) * LANES
            for lane in range(LANES):
                total[lane] += a[begin + lane]
        for lane in range(LANES):
            total[lane] /= count
        activate(step[KIND], parameters, total)


@called
def softmax(program: Any, tile: Any, step: Any) -> Any:
    a, out = memory(tile, step[A:])[step[A + OFFSET] * LANES:], memory(tile, step[OUT:])[step[OUT + OFFSET] * LANES:]
    top, total = tile.line[0, :LANES], tile.line[1, :LANES]
    for k in range(step[OUTERS]):
        o, i, _ = positions(program, step[OUTER], k)
        top[:] = -own.INFINITY
        total[:] = own.ZERO
        for e in range(step[INNERS]):
            _, at, _ = positions(program, step[INNER], e)
            row = a[(i + at) * LANES:(i + at + 1) * LANES]
            for lane in range(LANES):
                top[lane] = own.largest(top[lane], row[lane]) if e else row[lane]
        for e in range(step[INNERS]):
            to, at, _ = positions(program, step[INNER], e)
            row, power = a[(i + at) * LANES:(i + at + 1) * LANES], out[(o + to) * LANES:(o + to + 1) * LANES]
            for lane in range(LANES):
                power[lane] = own.exponential(row[lane] - top[lane])
                total[lane] += power[lane]
        for lane in range(LANES):
            total[lane] = top[lane] + own.logarithm(total[lane]) if step[OP] == LOG_SOFTMAX else own.ONE / total[lane]
        for e in range(step[INNERS]):
            to, at, _ = positions(program, step[INNER], e)
            row, result = a[(i + at) * LANES:(i + at + 1) * LANES], out[(o + to) * LANES:(o + to + 1) * LANES]
            for lane in range(LANES):
                result[lane] = (row[lane] - total[lane] if step[OP] == LOG_SOFTMAX
                                else result[lane] * total[lane])


@called
def layer_norm(program: Any, tile: Any, step: Any, parameters: Any) -> Any:
    a, out = memory(tile, step[A:])[step[A + OFFSET] * LANES:], memory(tile, step[OUT:])[step[OUT + OFFSET] * LANES:]
    middle, factor = tile.line[0, :LANES], tile.line[1, :LANES]
    count, n = np.float32(step[INNERS]), step[INNERS]
    for k in range(step[OUTERS]):
        o, i, _ = positions(program, step[OUTER], k)
        middle[:] = own.ZERO
        factor[:] = own.ZERO
        for e in range(n):
            _, at, _ = positions(program, step[INNER], e)
            for lane in range(LANES):
                middle[lane] += a[(i + at) * LANES + lane]
        for lane in range(LANES):
            middle[lane] /= count
        for e in range(n):
            _, at, _ = positions(program, step[INNER], e)
            for lane in range(LANES):
                d = a[(i + at) * LANES + lane] - middle[lane]
                factor[lane] = fma(d, d, factor[lane])
        for lane in range(LANES):
            factor[lane] = own.ONE / np.sqrt(factor[lane] / count + parameters[0])
        for e in range(n):
            to, at, _ = positions(program, step[INNER], e)
            weight = program.constants[step[BIAS] + e] if step[BIAS] >= 0 else own.ONE
            row, result = a[(i + at) * LANES:(i + at + 1) * LANES], out[(o + to) * LANES:(o + to + 1) * LANES]
            for lane in range(LANES):
                result[lane] = (row[lane] - middle[lane]) * factor[lane] * weight
            if step[EXTRA] >= 0:
                for lane in range(LANES):
                    result[lane] += program.constants[step[EXTRA] + e]


@called
def matmul(program: Any, tile: Any, step: Any) -> Any:
    a, b, out = memory(tile, step[A:]), memory(tile, step[B:]), memory(tile, step[OUT:])
    d = step[OUT + RANK] - 2
    K = step[A + SHAPE + d + 1]
    for k in range(step[OUTERS]):
        o, i, j = positions(program, step[OUTER], k)
        for m in range(step[OUT + SHAPE + d]):
            for n in range(step[OUT + SHAPE + d + 1]):
                to = (step[OUT + OFFSET] + o + m * step[OUT + STRIDE + d] + n * step[OUT + STRIDE + d + 1]) * LANES
                total = out[to:to + LANES]
                total[:] = own.ZERO
                for e in range(K):
                    left = (step[A + OFFSET] + i + m * step[A + STRIDE + d] + e * step[A + STRIDE + d + 1]) * LANES
                    right = (step[B + OFFSET] + j + e * step[B + STRIDE + d] + n * step[B + STRIDE + d + 1]) * LANES
                    x, y = a[left:left + LANES], b[right:right + LANES]
                    for lane in range(LANES):
                        total[lane] = fma(x[lane], y[lane], total[lane])
                if step[EXTRA] >= 0:
                    factor, shift = program.constants[step[EXTRA]], program.constants[step[EXTRA] + 1]
                    for lane in range(LANES):
                        total[lane] = fma(total[lane], factor, shift)


@called
def embedding(program: Any, tile: Any, step: Any) -> Any:
    a, out = memory(tile, step[A:])[step[A + OFFSET] * LANES:], memory(tile, step[OUT:])[step[OUT + OFFSET] * LANES:]
    E = step[OUT + SHAPE]
    for k in range(step[OUTERS]):
        o, i, _ = positions(program, step[OUTER], k)
        for lane in range(LANES):
            entry = step[BIAS] + np.int64(a[i * LANES + lane]) * E
            for e in range(E):
                out[(o + e * step[OUT + STRIDE]) * LANES + lane] = program.constants[entry + e]
