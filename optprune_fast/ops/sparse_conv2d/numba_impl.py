"""sparse_conv2d in Numba: the sums of the native kernels, where no compiler was at hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from optprune_fast.ops import numba_support
from optprune_fast.ops.geometry import output_size
from optprune_fast.ops.numba_slices import add_chunk, listed
from optprune_fast.ops.numba_support import compiled, prange
from optprune_fast.ops.slices import BAND, TILE, Slices


def missing() -> str | None:
    return numba_support.missing()


def declines(x: Tensor, *rest: object) -> str | None:
    return numba_support.declines_all_but_float32(x)


def run(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
        starts: Tensor, bias: Tensor | None = None, stride: Sequence[int] = (1, 1), padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1), groups: int = 1) -> Tensor:
    high, wide = (output_size(x.shape[i + 2], shape[i + 2], stride[i], padding[i], dilation[i]) for i in range(2))
    out = x.new_empty(x.shape[0], shape[0], high, wide)
    if out.numel():
        padded = torch.nn.functional.pad(x.detach(), (padding[1], padding[1], padding[0], padding[0])).contiguous()
        added = x.new_zeros(shape[0]) if bias is None else bias.detach()
        geometry = np.array([*shape[1:], *stride, *dilation, groups])
        with numba_support.threads():
            planes = listed(Slices(values, places, counts, rows, starts), shape[0], shape[1] * shape[2] * shape[3],
                            groups)
            _sparse_conv2d(padded.numpy(), *planes, added.contiguous().numpy(), geometry, out.numpy())
    return out


@compiled
def _sparse_conv2d(x, values, columns, counts, rows, starts, bias, geometry, out):  # type: ignore[no-untyped-def]
    """x: [B, C, H, W], padded   out: [B, O, H', W']; a task is a band of channels over one row of pixels"""
    samples, outputs, high, wide = out.shape
    channels, kh, kw = geometry[0], geometry[1], geometry[2]
    stride_h, stride_w, dilation_h, dilation_w, groups = geometry[3:]
    inputs = channels * kh * kw
    across = (inputs + TILE - 1) // TILE
    of_group = outputs // groups
    bands = (of_group + BAND - 1) // BAND
    for task in prange(samples * groups * bands * high):
        y = task % high
        band = task // high % bands
        group = task // (high * bands) % groups
        b = task // (high * bands * groups)
        many = min(BAND, of_group - band * BAND)
        first = group * of_group + band * BAND
        sums = np.zeros((many, wide), np.float32)
        taps = np.empty((TILE, wide), np.float32)
        for t in range(across):
            for i in range(min(TILE, inputs - t * TILE)):
                column = t * TILE + i
                c, ky, kx = column // (kh * kw), column // kw % kh, column % kw
                for pixel in range(wide):
                    taps[i, pixel] = x[b, group * channels + c, y * stride_h + ky * dilation_h,
                                       pixel * stride_w + kx * dilation_w]
            at = first * across + t * many
            add_chunk(values, columns, starts[(group * bands + band) * across + t], counts[at : at + many],
                      rows[at : at + many], taps, sums)
        for r in range(many):
            for pixel in range(wide):
                out[b, first + r, y, pixel] = sums[r, pixel] + bias[first + r]
