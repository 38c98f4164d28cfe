"""masked_conv2d in Numba: the loops of the native kernels, where no compiler was at hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from optprune_fast.ops import numba_support
from optprune_fast.ops.masked_conv2d.geometry import output_shape
from optprune_fast.ops.numba_support import compiled, fma, prange, trailing_zeros

LANES = 64  # samples side by side, as in masked_linear


def missing() -> str | None:
    return numba_support.missing()


def declines(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
             dilation: Sequence[int], groups: int) -> str | None:
    return numba_support.declines_metadata(x, weight, words)


def run(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
        dilation: Sequence[int], groups: int) -> Tensor:
    out = x.new_empty(output_shape(x, weight, words, stride, padding, dilation))
    if out.numel():
        tiles = numba_support.array(sample_tiles(x if x.dim() == 5 else x.unsqueeze(0), padding))
        with numba_support.threads():
            _masked_conv2d(tiles, numba_support.array(weight), numba_support.array(words), tuple(stride),
                           tuple(dilation), groups, out.numpy())
    return out


def sample_tiles(x: Tensor, padding: Sequence[int]) -> Tensor:
    """[P, B, C, H, W] → [P, ⌈B/lanes⌉, C, H + 2·, W + 2·, lanes]: samples side by side, zeros all around."""
    candidates, samples = x.shape[:2]
    lanes = min(LANES, samples)
    tiles = -(-samples // lanes)
    around = (padding[1], padding[1], padding[0], padding[0])
    padded = torch.nn.functional.pad(x, (*around, 0, 0, 0, tiles * lanes - samples))
    return padded.reshape(candidates, tiles, lanes, *padded.shape[2:]).permute(0, 1, 3, 4, 5, 2)


@compiled
def _masked_conv2d(x, weight, words, stride, dilation, groups, out):  # type: ignore[no-untyped-def]
    """x: [P or 1, tiles, C, H, W, lanes]   weight: [O, C/groups, kh, kw]   words: [P, O, ⌈I/64⌉]   out: [P, B, O, …]"""
    candidates, samples, rows, out_height, out_width = out.shape
    owners, tiles, channels, height, width, lanes = x.shape
    _, group_channels, kernel_height, kernel_width = weight.shape
    taps = kernel_height * kernel_width
    columns = group_channels * taps
    for task in prange(candidates * tiles * rows):
        o = task % rows
        tile = task // rows % tiles
        p = task // (rows * tiles)
        first_channel = o // (rows // groups) * group_channels
        inputs = x[p if owners > 1 else 0, tile].reshape(channels * height * width * lanes)
        row = weight[o].reshape(columns)
        # For each kept weight: its value, and where its input lies when the kernel stands in the upper left corner.
        # Unsigned, because Numba checks signed places for wrap-around and then cannot vectorise.
        values = np.empty(columns, x.dtype)
        places = np.empty(columns, np.uint64)
        count = 0
        for w in range(words.shape[2]):
            word = words[p, o, w]
            while word:
                i = np.int64(64 * w + trailing_zeros(word))
                word &= word - np.uint64(1)
                channel, tap = i // taps, i % taps
                y, z = tap // kernel_width * dilation[0], tap % kernel_width * dilation[1]
                values[count] = row[i]
                places[count] = (((first_channel + channel) * height + y) * width + z) * lanes
                count += 1
        # A row of outputs at a time. With stride 1 its inputs are neighbours and make one long run of samples.
        runs = 1 if stride[1] == 1 else out_width
        length = np.uint64(out_width * lanes // runs)
        sums = np.empty(out_width * lanes, x.dtype)
        first = tile * lanes
        for oy in range(out_height):
            sums[:] = 0
            for run in range(runs):
                at = np.uint64(run) * length
                corner = np.uint64((oy * stride[0] * width + run * stride[1]) * lanes)
                # Terms in ascending order, one by one; four to a pass spare the sums' way to memory.
                k = 0
                while k + 4 <= count:
                    a, b, c, d = (corner + places[k], corner + places[k + 1],
                                  corner + places[k + 2], corner + places[k + 3])
                    wa, wb, wc, wd = values[k], values[k + 1], values[k + 2], values[k + 3]
                    for t in range(length):
                        ab = fma(wb, inputs[b + t], fma(wa, inputs[a + t], sums[at + t]))
                        sums[at + t] = fma(wd, inputs[d + t], fma(wc, inputs[c + t], ab))
                    k += 4
                while k < count:
                    a = corner + places[k]
                    for t in range(length):
                        sums[at + t] = fma(values[k], inputs[a + t], sums[at + t])
                    k += 1
            for lane in range(min(lanes, samples - first)):
                for ox in range(out_width):
                    out[p, first + lane, o, oy, ox] = sums[ox * lanes + lane]
