"""Compressed sparse rows with 16-bit gaps between columns: half the index bytes of CSR, for rows up to 65536 columns.

    kept columns of a row   3  4  9  …
    gaps                    3  0  4  …     columns that are skipped; uint16 bit patterns in int16
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import kept_columns, words_of
from optprune_fast.formats.checks import require, require_offsets, require_plane
from optprune_fast.formats.exponent_code import require_values, signed16
from optprune_fast.runtime.errors import message

if TYPE_CHECKING:
    from typing_extensions import Self

LIMIT = 1 << 16


@dataclass(frozen=True, eq=False, repr=False)
class DeltaCSR(SparseFormat):
    """row_offsets [O + 1]; gaps int16 [nnz]; values [nnz]. Offsets are int32 below 2^31 kept weights.

    >>> weight = torch.zeros(1, 40_000).index_fill(1, torch.tensor([3, 39_999]), 2.0)
    >>> from optprune_fast.ops.words import pack
    >>> DeltaCSR.from_dense(weight, pack(weight != 0)).gaps
    tensor([     3, -25541], dtype=torch.int16)
    """

    name: ClassVar[str] = "delta_csr"
    shape: tuple[int, ...]
    row_offsets: Tensor
    gaps: Tensor
    values: Tensor

    @classmethod
    def from_bitmask(cls, bitmask: Bitmask) -> Self:
        if bitmask.columns > LIMIT:
            raise ValueError(message("delta_csr", f"a row must have at most {LIMIT} columns", "use csr or bitmask",
                                     columns=bitmask.columns))
        columns = kept_columns(bitmask.words, bitmask.columns, torch.int32)
        before = torch.cat([columns.new_zeros(1), columns[:-1] + 1])[: len(columns)]
        before[_starts(bitmask.row_offsets)] = 0
        return cls(bitmask.shape, bitmask.row_offsets, signed16(columns - before),
                   bitmask.to_bitmask().values)  # type: ignore[arg-type]

    def to_bitmask(self) -> Bitmask:
        words = words_of(self.row_offsets, self._column_indices(), self.columns)
        return Bitmask(self.shape, words, self.values, self.row_offsets)

    def _column_indices(self) -> Tensor:
        """int64 [nnz]."""
        sums = torch.cumsum((self.gaps.long() & 0xFFFF) + 1, 0)
        starts = self.row_offsets[:-1].long()
        before = torch.cat([sums.new_zeros(1), sums])[starts]
        counts = (self.row_offsets[1:] - self.row_offsets[:-1]).long()
        return sums - torch.repeat_interleave(before, counts) - 1

    @property
    def nnz(self) -> int:
        return len(self.values)

    def validate(self) -> None:
        require_values(self.name, self.values)
        require_plane(self.name, "gaps", self.gaps, torch.int16, (self.nnz,))
        require_offsets(self.name, "row_offsets", self.row_offsets, self.rows, self.nnz, self.columns)
        require(bool((self._column_indices() < self.columns).all()), self.name, "columns must lie in the row",
                columns=self.columns)


def _starts(row_offsets: Tensor) -> Tensor:
    """Where the first values of rows lie that have any."""
    starts = row_offsets[:-1]
    return starts[row_offsets[1:] > starts].long()
