"""The smallest on disk: mask and exponents through an adaptive range coder, signs and mantissas as they are.

    data   uint8   | mask | exponents | signs and mantissas: planes of whole bytes, then the bits that are left |

It is no format to run; `to_bitmask` decodes it, never through a dense copy. It is chosen for target="disk" alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from optprune_fast.formats import streams
from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import patterns, row_offsets
from optprune_fast.formats.checks import require, require_plane
from optprune_fast.formats.exponent_code import FIELDS
from optprune_fast.ops.words import word_count
from optprune_fast.runtime.errors import message

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False, repr=False)
class Entropy(SparseFormat):
    """A weight as one coded stream of bytes.

    kept:       kept weights
    lengths:    bytes of the mask's part and of the exponents' part
    contextual: whether the mask was coded with the densities of rows and columns as context
    ranks:      the commonest exponents, commonest first
    zeros:      lowest mantissa bits that are zero in every value, and not stored

    >>> weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    >>> held = Entropy.from_dense(weight, torch.full((64, 1), 0b1111))
    >>> held.nbytes < 64 * 4 * 4, bool((held.to_dense()[:, :4] == weight[:, :4]).all())
    (True, True)
    """

    name: ClassVar[str] = "entropy"
    shape: tuple[int, ...]
    value_dtype: torch.dtype
    kept: int
    lengths: tuple[int, int]
    contextual: bool
    ranks: tuple[int, ...]
    zeros: int
    data: Tensor

    @classmethod
    def from_bitmask(cls, bitmask: Bitmask) -> Self:
        values = bitmask.to_bitmask().values
        e, m = FIELDS[values.dtype]
        bits = streams.unsigned(patterns(values).cpu())  # type: ignore[arg-type]
        words = streams.unsigned(bitmask.words.cpu())
        mask, contextual = streams.encode_mask(words, bitmask.columns, bitmask.nnz)
        exponents, ranks = streams.encode_exponents((bits >> m) & ((1 << e) - 1), e)
        mantissas, zeros = streams.pack_mantissas(bits, e, m)
        data = torch.frombuffer(bytearray(mask + exponents + mantissas) or bytearray(1), dtype=torch.uint8)
        return cls(bitmask.shape, values.dtype, bitmask.nnz, (len(mask), len(exponents)), contextual, ranks, zeros,
                   data[: len(mask) + len(exponents) + len(mantissas)])

    def to_bitmask(self) -> Bitmask:
        e, m = FIELDS[self.value_dtype]
        data = self.data.cpu().numpy()
        first, second = self.lengths[0], sum(self.lengths)
        words = torch.zeros(self.rows, word_count(self.columns), dtype=torch.int64)
        streams.decode_mask(data[:first], streams.unsigned(words), self.columns, self.kept, self.contextual)
        offsets = row_offsets(words)
        if int(offsets[-1]) != self.kept:
            raise ValueError(message(self.name, "the mask does not keep as many weights as stated", "",
                                     stated=self.kept, found=int(offsets[-1])))
        symbols = streams.decode_exponents(data[first:second], self.kept, e, self.ranks)
        bits = streams.join(data[second:], symbols, e, m, self.zeros)
        values = torch.from_numpy(bits.view(streams.SIGNED[bits.itemsize])).view(self.value_dtype)
        return Bitmask(self.shape, words, values, offsets).to(self.device)

    @property
    def dtype(self) -> torch.dtype:
        return self.value_dtype

    @property
    def nnz(self) -> int:
        return self.kept

    def parameters(self) -> dict[str, Any]:
        return {"entropy": [self.kept, *self.lengths, int(self.contextual), self.zeros, *self.ranks]}

    @classmethod
    def from_planes(cls, shape: tuple[int, ...], dtype: torch.dtype, planes: Mapping[str, Tensor],
                    parameters: Mapping[str, Any]) -> Self:
        kept, mask, exponents, contextual, zeros, *ranks = (int(x) for x in parameters["entropy"])
        if set(planes) != {"data"} or dtype not in FIELDS:
            raise ValueError(message(cls.name, "the planes are not those of this format", "", found=sorted(planes)))
        return cls(shape, dtype, kept, (mask, exponents), bool(contextual), tuple(ranks), zeros, planes["data"])

    def validate(self) -> None:
        """Sizes, in proportion to the bytes that are there; contents show when they are decoded."""
        e, m = FIELDS[self.value_dtype]
        mask, exponents = self.lengths
        require(0 <= self.kept <= self.numel and mask >= 0 and exponents >= 0 and 0 <= self.zeros <= m, self.name,
                "counts must lie in their ranges", kept=self.kept, lengths=self.lengths, zeros=self.zeros)
        require(len(self.ranks) <= streams.RANKS and all(0 <= x < 1 << e for x in self.ranks), self.name,
                f"at most {streams.RANKS} exponents of {e} bits have ranks", ranks=self.ranks)
        whole = self.kept == self.numel
        require(mask == 0 if whole else self.numel <= streams.most(mask), self.name,
                "the mask's part is too short or too long for the shape", shape=list(self.shape), bytes=mask)
        length = mask + exponents + streams.packed_size(self.kept, 1 + m - self.zeros)
        require_plane(self.name, "data", self.data, torch.uint8, (length,))
