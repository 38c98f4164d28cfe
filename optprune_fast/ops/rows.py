"""Rows: how a weight lies in memory for a GPU, and the way to a dense one.

The kept weights of a weight [O, I] lie row after row, columns ascending. Where they belong is told by the words of the
mask, or, smaller above 88 % sparsity, by a byte for each: its column in a tile of 256.

| plane | |
|---|---|
| `values` | [nnz], row after row |
| `places` | int64 [O, ⌈I/64⌉]: words of the mask; or uint8 [nnz]: columns within the tile |
| `counts` | int16 [O * T]: kept weights of each of a row's T = ⌈I/256⌉ tiles; empty beside words |
| `starts` | int32, int64 from 2^31 values on, [O + 1]: first value of each row, and the end |

Bytes a weight at density D, 16-bit values, 4096 columns: 2 D + 0.126 with words, 3 D + 0.009 with columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from optprune_fast.ops.words import unpack

TILE = 256
_BAND = 256


class Rows(NamedTuple):
    """The planes of one weight."""

    values: Tensor
    places: Tensor
    counts: Tensor
    starts: Tensor

    @property
    def coded(self) -> bool:
        """Whether the places are words."""
        return self.places.dtype == torch.int64


def dense_bands(rows: Rows, outputs: int, inputs: int) -> Iterator[tuple[slice, Tensor]]:
    """(rows, weight [many, I]) of 256 rows at a time, zeros where nothing is kept."""
    for first in range(0, outputs, _BAND):
        part = slice(first, min(outputs, first + _BAND))
        own = slice(int(rows.starts[part.start]), int(rows.starts[part.stop]))
        kept = unpack(rows.places[part], inputs) if rows.coded else _listed(rows, part, own, inputs)
        yield part, rows.values.new_zeros(kept.shape).masked_scatter_(kept, rows.values[own])


def dense_weight(rows: Rows, shape: Sequence[int]) -> Tensor:
    """The weight [*shape] with its zeros."""
    out = rows.values.new_empty(shape[0], math.prod(shape[1:]))
    for part, weight in dense_bands(rows, *out.shape):
        out[part] = weight
    return out.view(*shape)


def _listed(rows: Rows, part: slice, own: slice, inputs: int) -> Tensor:
    """bool [many, I]: the kept weights of some rows, from their columns."""
    tiles = -(-inputs // TILE)
    counts = rows.counts[part.start * tiles : part.stop * tiles].long()
    tile = torch.arange(counts.numel(), device=counts.device).repeat_interleave(counts)
    kept = torch.zeros(counts.numel() * TILE, dtype=torch.bool, device=counts.device)
    kept[tile * TILE + rows.places[own]] = True
    return kept.view(part.stop - part.start, tiles * TILE)[:, :inputs]
