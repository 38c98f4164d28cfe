"""A bit a weight and the kept values: the smallest in memory from about 6 to 75 % sparsity, and the hub of the others.

    words        int64 [O, ⌈I/64⌉]   the mask (docs/FORMATS.md)
    values       [nnz]               row-major
    row_offsets  [O + 1]             row r's values are values[row_offsets[r] : row_offsets[r + 1]]; follows from words
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bits import flags, put, row_offsets, take
from optprune_fast.formats.checks import WEIGHT_DTYPES, require, require_offsets, require_words
from optprune_fast.formats.exponent_code import Values, decoded, require_values
from optprune_fast.ops.words import matrix, word_count
from optprune_fast.runtime.errors import message

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False, repr=False)
class Bitmask(SparseFormat):
    """Words of the mask and the kept values, raw or as `ExponentCode`.

    >>> weight = torch.tensor([[0.5, 3.0, -0.0], [7.0, 1.0, 2.0]])
    >>> held = Bitmask.from_dense(weight, torch.tensor([[6], [0]]))
    >>> held.values, held.row_offsets, held.to_dense()[0]
    (tensor([3., -0.]), tensor([0, 2, 2], dtype=torch.int32), tensor([0., 3., -0.]))
    """

    name: ClassVar[str] = "bitmask"
    codes: ClassVar[tuple[str, ...]] = ("raw", "exponent")
    derived: ClassVar[tuple[str, ...]] = ("row_offsets",)
    shape: tuple[int, ...]
    words: Tensor
    values: Values
    row_offsets: Tensor

    @classmethod
    def of(cls, weight: Tensor, mask_words: Tensor) -> Bitmask:
        """Of a dense weight, raw values."""
        if weight.dtype not in WEIGHT_DTYPES:
            raise TypeError(message("from_dense", "a weight must be float32, float16, bfloat16 or float64", "other "
                                    "tensors go into files as they are (Dense)", weight=weight))
        rows, columns = matrix(weight.shape)
        require_words("from_dense", mask_words, rows, columns)
        matrix_ = weight.detach().reshape(rows, columns)
        words = mask_words.contiguous().clone()
        return cls(tuple(weight.shape), words, take(matrix_, flags(words, columns)), row_offsets(words))

    @classmethod
    def from_bitmask(cls, bitmask: Bitmask) -> Self:
        return cls(bitmask.shape, bitmask.words, bitmask.values, bitmask.row_offsets)

    @classmethod
    def _build(cls, shape: tuple[int, ...], found: dict[str, Any]) -> Self:
        require_words(cls.name, found["words"], *matrix(shape))
        return cls(shape=shape, row_offsets=row_offsets(found["words"]), **found)

    def to_bitmask(self) -> Bitmask:
        return Bitmask(self.shape, self.words, decoded(self.values), self.row_offsets) if self.coded else self

    def to_dense(self) -> Tensor:
        return put(flags(self.words, self.columns), decoded(self.values)).reshape(self.shape)

    def mask_words(self) -> Tensor:
        return self.words

    @property
    def nnz(self) -> int:
        return len(self.values)

    def validate(self) -> None:
        require_words(self.name, self.words, self.rows, self.columns)
        require_values(self.name, self.values)
        require_offsets(self.name, "row_offsets", self.row_offsets, self.rows, self.nnz, self.columns)
        require(torch.equal(self.row_offsets, row_offsets(self.words)), self.name,
                "row_offsets and values must count the bits of words", words=self.words, row_offsets=self.row_offsets)


def empty_words(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """The words of a mask that keeps nothing."""
    rows, columns = matrix(shape)
    return torch.zeros(rows, word_count(columns), dtype=torch.int64, device=device)
