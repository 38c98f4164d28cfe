"""masked_linear in Numba: the loops of the native kernels, where no compiler was at hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from optprune_fast.ops import numba_support
from optprune_fast.ops.numba_support import compiled, fma, prange, trailing_zeros

# 64 float32 samples are 4 cache lines: long enough to hide latency, and 784 inputs of a tile stay within L2.
LANES = 64


def missing() -> str | None:
    return numba_support.missing()


def declines(x: Tensor, weight: Tensor, words: Tensor) -> str | None:
    return numba_support.declines_metadata(x, weight, words)


def run(x: Tensor, weight: Tensor, words: Tensor) -> Tensor:
    out = x.new_empty(words.shape[0], x.shape[-2], weight.shape[0])
    if out.numel():
        tiles = numba_support.array(sample_tiles(x if x.dim() == 3 else x.unsqueeze(0)))
        with numba_support.threads():
            _masked_linear(tiles, numba_support.array(weight), numba_support.array(words), out.numpy())
    return out


def sample_tiles(x: Tensor) -> Tensor:
    """[P, B, I] → [P, ⌈B/lanes⌉, I, lanes]: samples side by side, zeros past the last one."""
    candidates, samples, columns = x.shape
    lanes = min(LANES, samples)
    tiles = -(-samples // lanes)
    padded = torch.nn.functional.pad(x, (0, 0, 0, tiles * lanes - samples))
    return padded.reshape(candidates, tiles, lanes, columns).transpose(2, 3)


@compiled
def _masked_linear(x, weight, words, out):  # type: ignore[no-untyped-def]
    """x: [P or 1, tiles, I, lanes]   weight: [O, I]   words: [P, O, ⌈I/64⌉]   out: [P, B, O]"""
    candidates, samples, rows = out.shape
    owners, tiles, columns, lanes = x.shape
    for task in prange(candidates * tiles * rows):
        o = task % rows
        tile = task // rows % tiles
        p = task // (rows * tiles)
        inputs = x[p if owners > 1 else 0, tile]
        kept = np.empty(columns, np.int64)
        count = 0
        for w in range(words.shape[2]):
            word = words[p, o, w]
            while word:
                kept[count] = 64 * w + trailing_zeros(word)
                word &= word - np.uint64(1)
                count += 1
        sums = np.zeros(lanes, x.dtype)
        # Each sum takes its terms one by one in ascending order; four to a pass spare the sums' way to memory.
        k = 0
        while k + 4 <= count:
            a, b, c, d = kept[k], kept[k + 1], kept[k + 2], kept[k + 3]
            wa, wb, wc, wd = weight[o, a], weight[o, b], weight[o, c], weight[o, d]
            for lane in range(lanes):
                total = fma(wa, inputs[a, lane], sums[lane])
                total = fma(wb, inputs[b, lane], total)
                total = fma(wc, inputs[c, lane], total)
                sums[lane] = fma(wd, inputs[d, lane], total)
            k += 4
        while k < count:
            a = kept[k]
            for lane in range(lanes):
                sums[lane] = fma(weight[o, a], inputs[a, lane], sums[lane])
            k += 1
        first = tile * lanes
        for lane in range(min(lanes, samples - first)):
            out[p, first + lane, o] = sums[lane]
