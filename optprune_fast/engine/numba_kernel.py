"""A whole network under many masks, in Numba: one tile of samples after the other through all steps."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from optprune_fast.engine.numba_layers import conv2d, linear
from optprune_fast.engine.numba_list import list_rows
from optprune_fast.engine.numba_loss import OUTPUTS, loss, write_outputs
from optprune_fast.engine.numba_pointwise import pointwise, widen
from optprune_fast.engine.numba_program import NARROW, OP
from optprune_fast.engine.numba_reduce import embedding, layer_norm, matmul, mean, pool, softmax
from optprune_fast.engine.numba_vectors import LANES
from optprune_fast.ops.numba_support import called

# A thread's memory. The first two are the parts of the input that belong to the tile; line: [2, 8 * LANES].
Tile = namedtuple("Tile", "narrow_input wide_input narrow wide packed strip line values column")
# What a mask keeps; see `numba_program` for where each layer's part begins. counts: live rows of each layer.
Lists = namedtuple("Lists", "live counts start offsets weights used")


@called
def run_step(program: Any, tile: Any, lists: Any, s: Any) -> Any:
    step, parameters = program.steps[s], program.parameters[s]
    op = step[OP]
    if op == 0:
        linear(program, tile, lists, step, parameters)
    elif op == 1:
        conv2d(program, tile, lists, step, parameters)
    elif op <= 6:
        pointwise(program, tile, step, parameters)
    elif op <= 8:
        pool(tile, step, parameters)
    elif op == 9:
        mean(program, tile, step, parameters)
    elif op <= 11:
        softmax(program, tile, step)
    elif op == 12:
        layer_norm(program, tile, step, parameters)
    elif op == 13:
        matmul(program, tile, step)
    elif op == 14:
        embedding(program, tile, step)
    else:
        widen(program, tile, step)


@called
def run_tile(program: Any, tile: Any, lists: Any, narrow_input: Any, wide_input: Any, index: Any, samples: Any) -> Any:
    """All steps but the loss; returns the tile as the loss reads it."""
    width, size, wide_size = program.sizes[0], program.sizes[3] * LANES, program.sizes[4] * LANES
    wide = wide_input[index * wide_size:(index + 1) * wide_size]
    last = len(program.steps) - 1
    for r in range(min(width, (samples + LANES - 1) // LANES)):
        first = (index * width + r) * size
        part = Tile(narrow_input[first:first + size], wide, tile.narrow, tile.wide, tile.packed, tile.strip, tile.line,
                    tile.values, r)
        for s in range(last):
            if program.steps[s, NARROW]:
                run_step(program, part, lists, s)
    whole = Tile(narrow_input, wide, tile.narrow, tile.wide, tile.packed, tile.strip, tile.line, tile.values, 0)
    for s in range(last):
        if not program.steps[s, NARROW]:
            run_step(program, whole, lists, s)
    return whole


@called
def run_tasks(program: Any, narrow_input: Any, wide_input: Any, targets: Any, words: Any, sums: Any, outputs: Any,
              samples: Any, kind: Any, slot: Any, slots: Any) -> Any:
    """Every `slots`-th task from `slot` on; a task is some tiles of one candidate, which share its lists.

    sums: float64 [P, groups]   outputs: float32 [P, B, C, positions]   words: uint64 [P, W]   targets: [B, q]
    """
    sizes = program.sizes
    floats = sizes * LANES
    line = np.zeros((2, 8 * LANES), np.float32)
    # Zeros: borders of padded pictures are never written.
    tile = Tile(narrow_input, wide_input, np.zeros(floats[1], np.float32), np.zeros(floats[2], np.float32),
                np.empty(floats[5], np.float32), np.empty(floats[6], np.float32), line,
                np.zeros(8 * LANES, np.float32), 0)
    lists = Lists(np.empty(sizes[7], np.int64), np.empty(len(program.layers), np.int64), np.empty(sizes[8], np.int64),
                  np.empty(sizes[9], np.int32), np.empty(sizes[9], np.float32), np.empty(sizes[10], np.uint64))
    reach = sizes[0] * LANES
    tiles = (samples + reach - 1) // reach
    # Few candidates are split, or threads would be idle.
    parts = min(tiles, (4 * slots + len(words) - 1) // len(words))
    part = (tiles + parts - 1) // parts
    for task in range(slot, len(words) * parts, slots):
        candidate, begin = task // parts, task % parts * part
        list_rows(program, words[candidate], lists)
        for index in range(begin, min(tiles, begin + part)):
            first = index * reach
            left = min(reach, samples - first)
            whole = run_tile(program, tile, lists, narrow_input, wide_input, index, left)
            step = program.steps[len(program.steps) - 1]
            if kind == OUTPUTS:
                write_outputs(whole, step, first, left, outputs[candidate])
            else:
                loss(whole, step, kind, targets, first, left, sums[candidate])
