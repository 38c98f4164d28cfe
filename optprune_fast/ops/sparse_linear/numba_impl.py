"""sparse_linear in Numba: the sums of the native kernels, where no compiler was at hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from optprune_fast.ops import numba_support
from optprune_fast.ops.numba_slices import add_chunk, listed
from optprune_fast.ops.numba_support import compiled, prange
from optprune_fast.ops.slices import BAND, TILE, Slices

LANES = 32  # samples side by side: 256 columns of them fit the first-level cache


def missing() -> str | None:
    return numba_support.missing()


def declines(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
             starts: Tensor, bias: Tensor | None = None) -> str | None:
    return numba_support.declines_all_but_float32(x)


def run(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
        starts: Tensor, bias: Tensor | None = None) -> Tensor:
    out = x.new_empty(*x.shape[:-1], shape[0])
    if out.numel():
        samples = out.numel() // shape[0]
        flat = x.detach().reshape(samples, shape[1])
        lanes = min(LANES, samples)
        tiles = -(-samples // lanes)
        padded = torch.nn.functional.pad(flat, (0, 0, 0, tiles * lanes - samples))
        turned = padded.view(tiles, lanes, shape[1]).transpose(1, 2).contiguous().numpy()
        added = x.new_zeros(shape[0]) if bias is None else bias.detach()
        with numba_support.threads():
            planes = listed(Slices(values, places, counts, rows, starts), shape[0], shape[1], 1)
            _sparse_linear(turned, *planes, added.contiguous().numpy(), out.view(samples, shape[0]).numpy())
    return out


@compiled
def _sparse_linear(x, values, columns, counts, rows, starts, bias, out):  # type: ignore[no-untyped-def]
    """x: [tiles of samples, I, lanes]   out: [B, O]"""
    samples, outputs = out.shape
    tiles, inputs, lanes = x.shape
    across = (inputs + TILE - 1) // TILE
    bands = (outputs + BAND - 1) // BAND
    for task in prange(bands * tiles):
        band, tile = task // tiles, task % tiles
        first = band * BAND
        many = min(BAND, outputs - first)
        sums = np.zeros((many, lanes), np.float32)
        for t in range(across):
            at = first * across + t * many
            add_chunk(values, columns, starts[band * across + t], counts[at : at + many], rows[at : at + many],
                      x[tile, t * TILE : (t + 1) * TILE], sums)
        for b in range(min(lanes, samples - tile * lanes)):
            for r in range(many):
                out[tile * lanes + b, first + r] = sums[r, b] + bias[first + r]
