"""Whole blocks of weights, for masks that keep or drop blocks: channels, heads, kernels of a convolution.

    block   (b, c): the matrix is cut into ⌈O/b⌉ × ⌈I/c⌉ blocks, clipped at its edges
    words   int64 [⌈O/b⌉, ⌈⌈I/c⌉/64⌉]: which blocks are kept, as a mask
    values  [blocks kept, b, c], row-major; +0.0 past the edges
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import flags, packed, patterns, put, row_offsets, take
from optprune_fast.formats.checks import WEIGHT_DTYPES, require, require_plane, require_words
from optprune_fast.runtime.errors import message

if TYPE_CHECKING:
    from typing_extensions import Self

BLOCKS = ((32, 32), (16, 16), (8, 8), (4, 4), (1, 32), (1, 16), (1, 9), (1, 8), (1, 4))
LIMIT = 1024


@dataclass(frozen=True, eq=False, repr=False)
class Block(SparseFormat):
    """Kept blocks of one size. The mask must be the same all over a block.

    >>> weight = torch.arange(1.0, 33.0).view(4, 8)
    >>> Block.from_dense(weight, torch.full((4, 1), 0b11110000)).values.shape
    torch.Size([1, 4, 4])
    """

    name: ClassVar[str] = "block"
    shape: tuple[int, ...]
    block: tuple[int, int]
    words: Tensor
    values: Tensor

    @classmethod
    def from_bitmask(cls, bitmask: Bitmask, block: tuple[int, int] | None = None) -> Self:
        """Of this block, or of the largest of `BLOCKS` that the mask allows."""
        kept = flags(bitmask.words, bitmask.columns)
        found = next((size for size in ([block] if block else BLOCKS) if _constant(kept, size)), None)
        if found is None:
            tried = ", ".join(f"{b}×{c}" for b, c in ([block] if block else BLOCKS))
            raise ValueError(message("block", f"the mask must keep or drop whole blocks; tried {tried}",
                                     "use another format", shape=list(bitmask.shape)))
        blocks = _cut(kept, found, False).flatten(2).any(-1)
        values = _cut(put(kept, bitmask.to_bitmask().values), found, 0)[blocks]  # type: ignore[arg-type]
        return cls(bitmask.shape, found, packed(blocks), values.contiguous())

    @classmethod
    def _build(cls, shape: tuple[int, ...], found: dict[str, Any]) -> Self:
        b, c = found.pop("block")
        if not all(isinstance(x, int) and 1 <= x <= LIMIT for x in (b, c)):
            raise ValueError(message("block", f"a block has 1 to {LIMIT} rows and columns", block=(b, c)))
        return cls(shape=shape, block=(b, c), **found)

    def to_bitmask(self) -> Bitmask:
        b, c = self.block
        blocks = flags(self.words, self.across)
        grid = torch.zeros(*blocks.shape, b, c, dtype=self.dtype, device=self.device)
        patterns(grid)[blocks] = patterns(self.values)
        weight = grid.transpose(1, 2).reshape(self.down * b, self.across * c)[: self.rows, : self.columns]
        kept = blocks.repeat_interleave(b, 0)[: self.rows].repeat_interleave(c, 1)[:, : self.columns]
        words = packed(kept)
        return Bitmask(self.shape, words, take(weight.contiguous(), kept), row_offsets(words))

    @property
    def down(self) -> int:
        """Blocks below one another."""
        return -(-self.rows // self.block[0])

    @property
    def across(self) -> int:
        """Blocks beside one another."""
        return -(-self.columns // self.block[1])

    @property
    def nnz(self) -> int:
        return self.to_bitmask().nnz

    def parameters(self) -> dict[str, Any]:
        return {"block": list(self.block)}

    def validate(self) -> None:
        require_words(self.name, self.words, self.down, self.across)
        blocks = flags(self.words, self.across)
        require(self.values.dtype in WEIGHT_DTYPES, self.name, "values must be floats", values=self.values)
        require_plane(self.name, "values", self.values, self.values.dtype, (int(blocks.sum()), *self.block))
        b, c = self.block
        row, column = blocks.nonzero().unbind(1)
        lower, right = self.rows - (self.down - 1) * b, self.columns - (self.across - 1) * c
        bits = patterns(self.values)
        past = bits[row == self.down - 1, lower:].any() | bits[column == self.across - 1, :, right:].any()
        require(not bool(past), self.name, "values past the edges must be +0.0", values=self.values)


def _cut(matrix: Tensor, block: tuple[int, int], fill: bool | int) -> Tensor:
    """[O, I] -> [⌈O/b⌉, ⌈I/c⌉, b, c], `fill` past the edges."""
    (rows, columns), (b, c) = matrix.shape, block
    down, across = -(-rows // b), -(-columns // c)
    padded = torch.full((down * b, across * c), fill, dtype=matrix.dtype, device=matrix.device)
    patterns(padded)[:rows, :columns] = patterns(matrix)
    return padded.view(down, b, across, c).transpose(1, 2)


def _constant(kept: Tensor, block: tuple[int, int]) -> bool:
    return bool(torch.equal(_cut(kept, block, False).flatten(2).any(-1), _cut(kept, block, True).flatten(2).all(-1)))

