"""A tensor as it is: what is not pruned, and layers that no sparse format makes smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import packed, row_offsets

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False, repr=False)
class Dense(SparseFormat):
    """A whole tensor of any dtype and shape. It knows no mask: every weight counts as kept, zeros too.

    >>> Dense.from_dense(torch.tensor([[-1.0, 2.0]]), torch.tensor([[2]])).weight
    tensor([[0., 2.]])
    """

    name: ClassVar[str] = "dense"
    shape: tuple[int, ...]
    values: Tensor  # [*shape]

    @classmethod
    def of(cls, tensor: Tensor) -> Dense:
        return cls(tuple(tensor.shape), tensor.detach().contiguous())

    @classmethod
    def from_bitmask(cls, bitmask: Bitmask) -> Self:
        return cls(bitmask.shape, bitmask.to_dense())

    @property
    def weight(self) -> Tensor:
        return self.values

    def to_bitmask(self) -> Bitmask:
        words = packed(torch.ones(self.rows, self.columns, dtype=torch.bool, device=self.device))
        return Bitmask(self.shape, words, self.values.flatten(), row_offsets(words))

    def to_dense(self) -> Tensor:
        return self.values

    @property
    def nnz(self) -> int:
        return self.numel

    def validate(self) -> None:
        """Every tensor is a dense weight."""
