"""The last step, in Numba: one number a sample, added up in the order of the samples; or the outputs themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from optprune_fast.engine import numba_math as own
from optprune_fast.engine.numba_pointwise import memory
from optprune_fast.engine.numba_program import OFFSET, SHAPE, STRIDE, A, B
from optprune_fast.engine.numba_vectors import LANES
from optprune_fast.engine.population import SUM_GROUP
from optprune_fast.ops.numba_support import called, fma

OUTPUTS, CROSS_ENTROPY, ERROR, KL, MSE = range(5)  # as in LOSSES


@called
def write_outputs(tile: Any, step: Any, first: Any, samples: Any, out: Any) -> Any:
    """out: [B, C, positions]"""
    logits = memory(tile, step[A:])
    for c in range(step[A + SHAPE]):
        for q in range(step[A + SHAPE + 1]):
            at = (step[A + OFFSET] + c * step[A + STRIDE] + q * step[A + STRIDE + 1]) * LANES
            for i in range(samples):
                out[first + i, c, q] = logits[at + i]


@called
def log_sum(logits: Any, step: Any, classes: Any, lines: Any) -> Any:
    """lines[1] = log of the sum of e^logit; lines[0] is overwritten."""
    n = lines.shape[1]
    top, total = lines[0], lines[1]
    for i in range(n):
        top[i], total[i] = logits[i], own.ZERO
    for c in range(1, classes):
        x = logits[c * step:c * step + n]
        for i in range(n):
            top[i] = own.largest(top[i], x[i])
    for c in range(classes):
        x = logits[c * step:c * step + n]
        for i in range(n):
            total[i] = own.add_exponential(total[i], x[i] - top[i])
    for i in range(n):
        total[i] = top[i] + own.logarithm(total[i])


@called
def is_wrong(logits: Any, step: Any, classes: Any, i: Any, target: Any) -> Any:
    """Whether the first of the largest logits is not the target's."""
    best = 0
    for c in range(1, classes):
        value, top = logits[c * step + i], logits[best * step + i]
        if value > top or (value != value and top == top):
            best = c
    return best != target


@called
def from_targets(kind: Any, logits: Any, step: Any, classes: Any, targets: Any, samples: Any, lines: Any,
                 total: Any) -> Any:
    if kind == CROSS_ENTROPY:
        log_sum(logits, step, classes, lines)
        for i in range(samples):
            total[i] += lines[1, i] - logits[targets[i] * step + i]
    else:
        for i in range(samples):
            total[i] += own.ONE if is_wrong(logits, step, classes, i, targets[i]) else own.ZERO


@called
def from_dense(kind: Any, logits: Any, step: Any, classes: Any, wanted: Any, wanted_step: Any, lines: Any,
               total: Any) -> Any:
    """Kullback-Leibler divergence from wanted log-probabilities, or squared differences."""
    n = lines.shape[1]
    if kind == KL:
        log_sum(logits, step, classes, lines)
    every, one = lines[1], lines[0]
    one[:] = own.ZERO
    for c in range(classes):
        q, p = logits[c * step:c * step + n], wanted[c * wanted_step:c * wanted_step + n]
        if kind == KL:
            for i in range(n):
                one[i] = fma(own.exponential(p[i]), p[i] - (q[i] - every[i]), one[i])
        else:
            for i in range(n):
                d = q[i] - p[i]
                one[i] = fma(d, d, one[i])
    for i in range(n):
        total[i] += one[i]


@called
def sum_groups(values: Any, groups: Any, sums: Any) -> Any:
    """Sums of groups of samples, pair by pair, as the native kernels add them."""
    group = np.empty(SUM_GROUP, np.float64)
    for g in range(groups):
        for i in range(SUM_GROUP):
            group[i] = np.float64(values[g * SUM_GROUP + i])
        half = SUM_GROUP // 2
        while half > 0:
            for i in range(half):
                group[i] += group[i + half]
            half //= 2
        sums[g] = group[0]


@called
def loss(tile: Any, step: Any, kind: Any, targets: Any, first: Any, samples: Any, sums: Any) -> Any:
    """Sums of the tile's samples, the first of which is `first`. targets: [B, positions]."""
    classes, positions, width = step[A + SHAPE], step[A + SHAPE + 1], step[A + SHAPE + 2]
    logits, wanted = memory(tile, step[A:]), memory(tile, step[B:])
    n = width * LANES
    total = tile.values
    total[:] = own.ZERO
    for q in range(positions):
        own_logits = logits[(step[A + OFFSET] + q * step[A + STRIDE + 1]) * LANES:]
        if kind >= KL:
            own_wanted = wanted[(step[B + OFFSET] + q * step[B + STRIDE + 1]) * LANES:]
            from_dense(kind, own_logits, step[A + STRIDE] * LANES, classes, own_wanted, step[B + STRIDE] * LANES,
                       tile.line[:, :n], total)
        else:
            from_targets(kind, own_logits, step[A + STRIDE] * LANES, classes, targets[first:, q], samples,
                         tile.line[:, :n], total)
    each = np.float32(positions * classes if kind == MSE else positions)
    for i in range(len(total)):
        total[i] = total[i] / each if i < samples else own.ZERO
    sum_groups(total, (samples + SUM_GROUP - 1) // SUM_GROUP, sums[first // SUM_GROUP:])
