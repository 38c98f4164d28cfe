"""Compressed sparse rows with 32-bit columns: what SciPy and torch read, for analysis; it is never the smallest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import kept_columns, words_of
from optprune_fast.formats.checks import require, require_ascending, require_offsets, require_plane
from optprune_fast.formats.exponent_code import require_values
from optprune_fast.runtime.errors import message

if TYPE_CHECKING:
    from typing_extensions import Self

LIMIT = 2**31


@dataclass(frozen=True, eq=False, repr=False)
class CSR(SparseFormat):
    """row_offsets [O + 1]; columns int32 [nnz], rising in a row; values [nnz]. Offsets are int32 below 2^31 weights.

    >>> held = CSR.from_dense(torch.tensor([[0.0, 2.0], [3.0, 4.0]]), torch.tensor([[2], [3]]))
    >>> held.row_offsets, held.column_indices
    (tensor([0, 1, 3], dtype=torch.int32), tensor([1, 0, 1], dtype=torch.int32))
    """

    name: ClassVar[str] = "csr"
    shape: tuple[int, ...]
    row_offsets: Tensor
    column_indices: Tensor
    values: Tensor

    @classmethod
    def from_bitmask(cls, bitmask: Bitmask) -> Self:
        if bitmask.columns >= LIMIT:
            raise ValueError(message("csr", f"a row must have fewer than {LIMIT} columns", "use bitmask",
                                     columns=bitmask.columns))
        plain = bitmask.to_bitmask()
        return cls(bitmask.shape, bitmask.row_offsets, kept_columns(bitmask.words, bitmask.columns, torch.int32),
                   plain.values)  # type: ignore[arg-type]

    def to_bitmask(self) -> Bitmask:
        return Bitmask(self.shape, words_of(self.row_offsets, self.column_indices, self.columns), self.values,
                       self.row_offsets)

    @property
    def nnz(self) -> int:
        return len(self.values)

    def validate(self) -> None:
        require_values(self.name, self.values)
        require_plane(self.name, "column_indices", self.column_indices, torch.int32, (self.nnz,))
        require_offsets(self.name, "row_offsets", self.row_offsets, self.rows, self.nnz, self.columns)
        inside = (self.column_indices >= 0) & (self.column_indices < self.columns)
        require(bool(inside.all()), self.name, "columns must lie in the row", columns=self.columns)
        require_ascending(self.name, self.column_indices, self.row_offsets)
