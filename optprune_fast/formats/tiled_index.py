"""A byte a kept weight for its column in a tile of 256: small and quick to gather from above about 75 % sparsity.

    row r   | columns 0 … 255 | 256 … 511 | …           T = ⌈I/256⌉ tiles
    offsets   [O T + 1]: tile t's kept weights are offsets[r T + t] : offsets[r T + t + 1]
    columns   uint8 [nnz]: column - 256 t, rising in a tile
    values    [nnz], in the same order, which is row-major
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bitmask import Bitmask, empty_words
from optprune_fast.formats.bits import kept_columns, offsets, row_offsets, steps, words_of
from optprune_fast.formats.checks import require, require_ascending, require_offsets, require_plane
from optprune_fast.formats.exponent_code import Values, decoded, require_values
from optprune_fast.ops.words import WORD_BITS, popcount

if TYPE_CHECKING:
    from typing_extensions import Self

TILE = 256


@dataclass(frozen=True, eq=False, repr=False)
class TiledIndex(SparseFormat):
    """8-bit columns in tiles of 256, values raw or as `ExponentCode`. Offsets are int32 below 2^31 kept weights.

    >>> weight = torch.zeros(1, 300).index_fill(1, torch.tensor([3, 257]), 2.0)
    >>> held = TiledIndex.from_dense(weight, torch.tensor([[8, 0, 0, 0, 2]]))
    >>> held.columns_in_tile, held.offsets
    (tensor([3, 1], dtype=torch.uint8), tensor([0, 1, 2], dtype=torch.int32))
    """

    name: ClassVar[str] = "tiled_index"
    codes: ClassVar[tuple[str, ...]] = ("raw", "exponent")
    shape: tuple[int, ...]
    offsets: Tensor
    columns_in_tile: Tensor
    values: Values

    @classmethod
    def from_bitmask(cls, bitmask: Bitmask) -> Self:
        rows, columns = bitmask.rows, bitmask.columns
        in_words = torch.zeros(rows, -(-columns // TILE) * TILE // WORD_BITS, dtype=torch.int64, device=bitmask.device)
        in_words[:, : bitmask.words.shape[1]] = popcount(bitmask.words)
        in_tiles = in_words.view(-1, TILE // WORD_BITS).sum(1)
        return cls(bitmask.shape, offsets(in_tiles), kept_columns(bitmask.words, columns, torch.uint8, TILE - 1),
                   bitmask.to_bitmask().values)

    def to_bitmask(self) -> Bitmask:
        words, starts = empty_words(self.shape, self.device), self._row_offsets()
        first = torch.arange(self.tiles, device=self.device, dtype=torch.int32) * TILE
        for part in steps(self.rows, self.columns):  # whole columns take more memory than the weight that is held
            places = self.offsets[part.start * self.tiles : part.stop * self.tiles + 1]
            begin, end = int(places[0]), int(places[-1])
            in_tile = self.columns_in_tile[begin:end]
            columns = torch.repeat_interleave(first.repeat(part.stop - part.start), places.diff().long()) + in_tile
            words[part] = words_of(starts[part.start : part.stop + 1] - begin, columns, self.columns)
        return Bitmask(self.shape, words, decoded(self.values), row_offsets(words))

    @property
    def tiles(self) -> int:
        """Tiles of a row."""
        return -(-self.columns // TILE)

    @property
    def nnz(self) -> int:
        return len(self.values)

    def _row_offsets(self) -> Tensor:
        return self.offsets[:: self.tiles] if self.tiles else self.offsets.repeat(self.rows + 1)

    def validate(self) -> None:
        require_values(self.name, self.values)
        require_plane(self.name, "columns_in_tile", self.columns_in_tile, torch.uint8, (self.nnz,))
        require_offsets(self.name, "offsets", self.offsets, self.rows * self.tiles, self.nnz, TILE)
        require_ascending(self.name, self.columns_in_tile, self.offsets)
        if self.columns % TILE:
            ends = self.offsets[self.tiles :: self.tiles].long()
            begins = self.offsets[self.tiles - 1 :: self.tiles][: self.rows].long()
            last = self.columns_in_tile[(ends[ends > begins] - 1)]
            require(bool((last < self.columns % TILE).all()), self.name, "columns must lie in the row",
                    columns=self.columns)
