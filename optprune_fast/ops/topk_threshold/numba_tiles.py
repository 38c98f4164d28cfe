"""Tiles for the passes of numba_pass: some whole rows, or a part of a long row that starts on a word."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from optprune_fast.ops.topk_threshold.levels import DTYPES, Array
from optprune_fast.ops.words import word_count

TILE = 65536  # weights at most: a place in a tile is a number of 16 bits


def tile_types(rows: list[Tensor]) -> list[int]:
    return [DTYPES.index(weights.dtype) for weights in rows]


def cut(rows: list[Tensor], words: list[Tensor], pool_words: list[Tensor] | None) -> tuple[Array, Array]:
    """(tiles, tensors): the table that numba_pass reads, and the tensor of each tile."""
    parts = [_tiles(weights, words[i], None if pool_words is None else pool_words[i]) for i, weights in enumerate(rows)]
    tensors = np.repeat(np.arange(len(rows)), [len(part) for part in parts])
    return np.concatenate(parts) if parts else np.zeros((0, 6), np.int64), tensors


def _tiles(weights: Tensor, words: Tensor, pool_words: Tensor | None) -> Array:
    rows, columns = weights.shape
    if rows * columns == 0:
        return np.zeros((0, 6), np.int64)
    if columns % 64 == 0:  # words of neighbouring rows follow one another, as if they were one
        rows, columns = 1, rows * columns
    kind, out, pool = DTYPES.index(weights.dtype), words.data_ptr(), 0 if pool_words is None else pool_words.data_ptr()
    if rows * columns <= TILE:  # thousands of small ones: without a grid
        return np.array([[weights.data_ptr(), rows, columns, kind, out, pool]])
    at_once, step = (TILE // columns, columns) if columns <= TILE else (1, TILE)
    row, column = (part.ravel() for part in np.meshgrid(
        np.arange(0, rows, at_once), np.arange(0, columns, step), indexing="ij"))
    word = 8 * (row * word_count(columns) + column // 64)
    tiles = np.zeros((len(row), 6), np.int64)
    tiles[:, 0] = weights.data_ptr() + (row * columns + column) * weights.element_size()
    tiles[:, 1] = np.minimum(at_once, rows - row)
    tiles[:, 2] = np.minimum(step, columns - column)
    tiles[:, 3] = kind
    tiles[:, 4] = out + word
    tiles[:, 5] = 0 if pool_words is None else pool + word
    return tiles
