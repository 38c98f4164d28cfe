"""Linear layers and convolutions in Numba: every output one accumulator over its kept weights, ascending."""

from __future__ import annotations

from typing import Any

from optprune_fast.engine.numba_math import INFINITY, ZERO, largest
from optprune_fast.engine.numba_pointwise import activate, copy, memory
from optprune_fast.engine.numba_program import (
    BIAS,
    KIND,
    LAYER,
    LIVE,
    NUMBERS,
    OFFSET,
    OUT,
    ROWS,
    SHAPE,
    START,
    STRIDE,
    WIDTH,
    A,
    B,
)
from optprune_fast.engine.numba_vectors import LANES, MOST_POSITIONS, MOST_REGISTERS, add_patch
from optprune_fast.ops.numba_support import called

RELU = 1
CACHED = 24 * 1024 // 4 // LANES  # registers that stay in the first-level cache


@called
def linear(program: Any, tile: Any, lists: Any, step: Any, parameters: Any) -> Any:
    layer, count = program.layers[step[LAYER]], lists.counts[step[LAYER]]
    live, start = lists.live[layer[LIVE]:], lists.start[layer[START]:]
    registers, x_step, to_step = step[A + SHAPE + 1], step[A + STRIDE] * LANES, step[OUT + STRIDE] * LANES
    x, to = memory(tile, step[A:]), memory(tile, step[OUT:])
    at, first = step[A + OFFSET] * LANES, step[OUT + OFFSET] * LANES
    relu = step[KIND] == RELU
    low = ZERO if relu else -INFINITY
    n = 0
    while n < registers:
        some = min(MOST_REGISTERS, registers - n)
        if registers > MOST_REGISTERS:  # columns far apart would fight for the same cache sets: side by side first
            for i in range(layer[WIDTH]):
                copy(tile.packed, i * MOST_REGISTERS * LANES, x, at + i * x_step + n * LANES, some * LANES)
        source, base = (tile.packed, 0) if registers > MOST_REGISTERS else (x, at)
        for k in range(count):
            r = live[k]
            bias = program.constants[step[BIAS] + r] if step[BIAS] >= 0 else ZERO
            add_patch(source, base, 0, LANES, lists.offsets, lists.weights, start[r], start[r + 1], bias, low, to,
                      first + r * to_step + n * LANES, 0, 1, some)
        n += some
    if not relu:
        for k in range(count):
            begin = first + live[k] * to_step
            activate(step[KIND], parameters, to[begin:begin + registers * LANES])


@called
def strip_columns(columns: Any, out_w: Any, kernel_w: Any, x_step: Any) -> Any:
    """Outputs side by side: what one row of them reads stays in cache while one channel after the other reads it."""
    most = MOST_POSITIONS
    while most > MOST_REGISTERS and columns // kernel_w * ((most - 1) * x_step + kernel_w) > CACHED:
        most -= 1
    pieces = (out_w + most - 1) // most
    return (out_w + pieces - 1) // pieces


@called
def add_rows(x: Any, at: Any, y_step: Any, x_step: Any, lists: Any, first: Any, end: Any, bias: Any, low: Any, to: Any,
             place: Any, to_y: Any, rows: Any, columns: Any) -> Any:
    """`rows` rows of `columns` outputs, as many rows at once as registers hold."""
    together = 4 if MOST_POSITIONS // columns >= 4 else 2 if MOST_POSITIONS // columns >= 2 else 1
    if x_step != LANES:
        together = 1
    y = 0
    while y < rows:
        some = together if rows - y >= together else 1
        add_patch(x, at + y * y_step, y_step, x_step, lists.offsets, lists.weights, first, end, bias, low, to,
                  place + y * to_y, to_y, some, columns)
        y += some


@called
def add_residual(to: Any, place: Any, to_y: Any, residual: Any, at: Any, step_y: Any, low: Any, rows: Any,
                 floats: Any) -> Any:
    for y in range(rows):
        own, other = to[place + y * to_y:place + y * to_y + floats], residual[at + y * step_y:at + y * step_y + floats]
        for i in range(floats):
            own[i] = largest(low, own[i] + other[i])


@called
def pool_pairs(strip: Any, columns: Any, to: Any) -> Any:
    for x in range(columns // 2):
        upper, lower = strip[2 * x * LANES:], strip[(columns + 2 * x) * LANES:]
        own = to[x * LANES:(x + 1) * LANES]
        for i in range(LANES):
            top = largest(upper[i], upper[LANES + i])
            own[i] = largest(top, largest(lower[i], lower[LANES + i]))


@called
def conv2d(program: Any, tile: Any, lists: Any, step: Any, parameters: Any) -> Any:
    """One register of samples; bias, residual, ReLU or its kin and a 2x2 maximum follow where the step says so."""
    layer, count = program.layers[step[LAYER]], lists.counts[step[LAYER]]
    live, start = lists.live[layer[LIVE]:], lists.start[layer[START]:]
    y_by, x_by, groups, out_h = step[NUMBERS], step[NUMBERS + 1], step[NUMBERS + 2], step[NUMBERS + 3]
    out_w, kernel_w, pools, adds = step[NUMBERS + 4], step[NUMBERS + 5], step[NUMBERS + 6], step[NUMBERS + 7]
    group_rows, group = layer[ROWS] // groups, step[A + SHAPE] // groups * step[A + STRIDE]
    row, column = step[A + STRIDE + 1] * y_by, step[A + STRIDE + 2] * x_by
    x, to, other = memory(tile, step[A:]), memory(tile, step[OUT:]), memory(tile, step[B:])
    width = strip_columns(layer[WIDTH], out_w, kernel_w, x_by)
    if pools and width % 2:
        width += 1 if width < MOST_POSITIONS else -1
    height = 2 if pools else 4 if MOST_POSITIONS // width >= 4 else 2 if MOST_POSITIONS // width >= 2 else 1
    relu = step[KIND] == RELU
    low = ZERO if relu else -INFINITY
    for y in range(0, out_h, height):
        rows = min(height, out_h - y)
        for left in range(0, out_w, width):
            columns = min(width, out_w - left)
            for k in range(count):
                o = live[k]
                bias = program.constants[step[BIAS] + o] if step[BIAS] >= 0 else ZERO
                at = step[A + OFFSET] + o // group_rows * group + y * row + left * column
                out = step[OUT + OFFSET] + o * step[OUT + STRIDE]
                here = out + y * step[OUT + STRIDE + 1] + left
                own, place, to_y = (tile.strip, 0, columns) if pools else (to, here, step[OUT + STRIDE + 1])
                add_rows(x, at * LANES, row * LANES, column * LANES, lists, start[o], start[o + 1], bias,
                         -INFINITY if adds else low, own, place * LANES, to_y * LANES, rows, columns)
                if adds:
                    begin = step[B + OFFSET] + o * step[B + STRIDE] + y * step[B + STRIDE + 1] + left
                    add_residual(own, place * LANES, to_y * LANES, other, begin * LANES, step[B + STRIDE + 1] * LANES,
                                 low, rows, columns * LANES)
                if not relu:
                    for i in range(rows):
                        begin = (place + i * to_y) * LANES
                        activate(step[KIND], parameters, own[begin:begin + columns * LANES])
                if pools and rows == 2:
                    pool_pairs(tile.strip, columns, to[(out + y // 2 * step[OUT + STRIDE + 1] + left // 2) * LANES:])
