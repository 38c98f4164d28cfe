"""What a GPU holds of a compressed weight: the planes of the formats `bitmask` and `tiled_index`, as rows_linear reads
them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import offsets, row_offsets
from optprune_fast.formats.tiled_index import TILE, TiledIndex
from optprune_fast.ops.rows import Rows
from optprune_fast.ops.words import word_count


def serves(device: torch.device) -> bool:
    """Whether a device is a GPU, where weights lie in rows."""
    return device.type == "cuda"


def rows_of(words: Tensor, values: Tensor, shape: Sequence[int], *, coded: bool) -> Rows:
    """Rows of a weight [*shape] from its mask and its kept values. coded: words for places."""
    bitmask = Bitmask(tuple(shape), words, values, row_offsets(words))
    if coded:
        return Rows(values, words.clone(), torch.empty(0, dtype=torch.int16, device=words.device), bitmask.row_offsets)
    held = TiledIndex.from_bitmask(bitmask)
    return Rows(values, held.columns_in_tile, held.offsets.diff().to(torch.int16), bitmask.row_offsets)


def bitmask_of(rows: Rows, shape: Sequence[int]) -> Bitmask:
    """The mask and the kept values of rows."""
    if rows.coded:
        return Bitmask(tuple(shape), rows.places, rows.values, rows.starts)
    return TiledIndex(tuple(shape), offsets(rows.counts), rows.places, rows.values).to_bitmask()


def nbytes(rows: int, columns: int, kept: int, itemsize: int, *, coded: bool) -> int:
    """Bytes of such rows."""
    places = 8 * rows * word_count(columns) if coded else kept + 2 * rows * -(-columns // TILE)
    return kept * itemsize + places + (rows + 1) * (4 if kept < 2**31 else 8)
