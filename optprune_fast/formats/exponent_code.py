"""10 bits of a bfloat16 value, 13 of a float16 value, nothing lost: pruned weights have few exponents.

    bfloat16   s eeeeeeee mmmmmmm  ▸  low   s mmmmmmm      codes  cc           T[c] = e, the 4 commonest
    float16    s eeeee mmmmmmmmmm  ▸  low   mmmmmmmm       codes  cc    middle  mm (the 2 upper)    signs  s

    escapes, a uint16 each:  [ position in its block | e ]      for an e that is not in T
                               16 - bits of e          bits of e      a block is 2^(16 - bits of e) values

Fields of 1 and 2 bits lie lowest first in their bytes. Source of the observation: the exponents of magnitude-pruned
networks; the code is a fixed-length one so that a kernel can decode any value by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from optprune_fast.formats.bits import offsets, patterns
from optprune_fast.formats.checks import WEIGHT_DTYPES, require, require_offsets, require_plane
from optprune_fast.runtime.errors import message


class Fields(NamedTuple):
    """Bits of a floating type."""

    exponent: int
    mantissa: int


FIELDS = {torch.bfloat16: Fields(8, 7), torch.float16: Fields(5, 10), torch.float32: Fields(8, 23),
          torch.float64: Fields(11, 52)}
CODED_DTYPES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, eq=False)
class ExponentCode:
    """Values of 16 bits, coded.

    low             uint8 [n]
    codes, middle   uint8 [⌈n/4⌉], 2 bits a value; middle is empty for bfloat16
    signs           uint8 [⌈n/8⌉], a bit a value; empty for bfloat16
    table           uint8 [4], the commonest exponents, commonest first; 0 where there are fewer
    escapes         int16 [E], bit patterns, in the order of the values
    escape_offsets  [blocks + 1]: block b's escapes are escapes[escape_offsets[b] : escape_offsets[b + 1]]

    >>> code = ExponentCode.of(torch.tensor([1.0, -0.0, 3e38], dtype=torch.bfloat16))
    >>> code.decode().tolist()[:2], code.table, len(code.escapes)
    ([1.0, -0.0], tensor([  0, 127, 254,   0], dtype=torch.uint8), 0)
    """

    dtype: torch.dtype
    low: Tensor
    codes: Tensor
    middle: Tensor
    signs: Tensor
    table: Tensor
    escapes: Tensor
    escape_offsets: Tensor

    @staticmethod
    def of(values: Tensor) -> ExponentCode:
        """The code of bfloat16 or float16 values [n], any bit patterns."""
        if values.dtype not in CODED_DTYPES:
            raise TypeError(message("ExponentCode", "codes bfloat16 and float16", "use values='raw'", values=values))
        bits, (e, m) = patterns(values).int() & 0xFFFF, FIELDS[values.dtype]
        exponent = ((bits >> m) & ((1 << e) - 1)).long()
        counts = torch.bincount(exponent, minlength=1 << e)
        common = torch.argsort(counts, descending=True, stable=True)[:4]
        common = torch.where(counts[common] > 0, common, 0)
        code_of = torch.full((1 << e,), 4, dtype=torch.uint8, device=values.device)
        for place in (3, 2, 1, 0):  # an exponent that fills up the table has the lowest of its codes
            code_of[common[place]] = place
        code = code_of[exponent]
        escaped = (code == 4).nonzero().flatten()
        code[escaped] = 0
        block = 1 << (16 - e)
        entries = signed16(((escaped & (block - 1)) << e) | exponent[escaped])
        in_block = torch.bincount(escaped >> (16 - e), minlength=-(-len(values) // block))
        brain = values.dtype == torch.bfloat16
        nothing = torch.empty(0, dtype=torch.uint8, device=values.device)
        return ExponentCode(
            values.dtype, ((bits >> 8 & 0x80 | bits & 0x7F) if brain else bits & 0xFF).to(torch.uint8),
            pack_fields(code, 2), nothing if brain else pack_fields((bits >> 8 & 3).to(torch.uint8), 2),
            nothing if brain else pack_fields((bits >> 15).to(torch.uint8), 1), common.to(torch.uint8), entries,
            offsets(in_block))

    def decode(self) -> Tensor:
        """The values [n], bit by bit."""
        e, m = FIELDS[self.dtype]
        n = len(self)
        exponent = self.table[unpack_fields(self.codes, 2, n).long()].int()
        escapes = self.escapes.int() & 0xFFFF
        per_block = (self.escape_offsets[1:] - self.escape_offsets[:-1]).long()
        block = torch.repeat_interleave(torch.arange(len(per_block), device=self.low.device), per_block)
        exponent[(block << (16 - e)) + (escapes >> e)] = escapes & ((1 << e) - 1)
        low = self.low.int()
        if self.dtype == torch.bfloat16:
            bits = (low & 0x80) << 8 | exponent << m | low & 0x7F
        else:
            bits = (unpack_fields(self.signs, 1, n).int() << 15 | exponent << m
                    | unpack_fields(self.middle, 2, n).int() << 8 | low)
        return signed16(bits).view(self.dtype)

    def __len__(self) -> int:
        return self.low.shape[0]

    @property
    def nbytes(self) -> int:
        return sum(plane.nbytes for plane in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "dtype"}

    @staticmethod
    def from_planes(dtype: torch.dtype, planes: Mapping[str, Tensor]) -> ExponentCode:
        expected = {field.name for field in fields(ExponentCode)} - {"dtype"}
        if planes.keys() != expected or dtype not in CODED_DTYPES:
            raise ValueError(message("ExponentCode", "the planes are not those of coded values", "", dtype=dtype,
                                     found=sorted(planes), expected=sorted(expected)))
        return ExponentCode(dtype, **planes)

    def to(self, device: torch.device | str) -> ExponentCode:
        return ExponentCode(self.dtype, **{name: plane.to(device) for name, plane in self.tensors().items()})

    def validate(self) -> None:
        """Raise `ValueError` with the first rule that the planes break."""
        where, (e, _) = "ExponentCode", FIELDS[self.dtype]
        require(self.dtype in CODED_DTYPES and self.low.dim() == 1, where, "low must be one byte a value", low=self.low)
        n, wide = len(self), self.dtype == torch.float16
        block = 1 << (16 - e)
        for name, entries in (("low", n), ("codes", -(-n // 4)), ("middle", -(-n // 4) * wide),
                              ("signs", -(-n // 8) * wide), ("table", 4)):
            require_plane(where, name, getattr(self, name), torch.uint8, (entries,))
        require(self.escapes.dim() == 1 and self.escapes.dtype == torch.int16, where, "escapes must be int16 [E]",
                escapes=self.escapes)
        require(int(self.table.max()) < 1 << e, where, f"exponents have {e} bits", table=self.table)
        require_offsets(where, "escape_offsets", self.escape_offsets, -(-n // block), len(self.escapes), block)
        last = n - (-(-n // block) - 1) * block
        escapes = self.escapes.int() & 0xFFFF
        ending = escapes[int(self.escape_offsets[-2]) :] if n else escapes
        require(bool((ending >> e < last).all()), where, "escapes must be of values that are there", values=n)


Values = Tensor | ExponentCode


def decoded(values: Values) -> Tensor:
    """The values as a tensor [nnz]."""
    return values.decode() if isinstance(values, ExponentCode) else values


def require_values(where: str, values: Values) -> None:
    """Values of any count: a vector of a floating type, or a sound code."""
    if isinstance(values, ExponentCode):
        values.validate()
    else:
        require(values.dim() == 1 and values.dtype in WEIGHT_DTYPES, where, "values must be floats [nnz]",
                values=values)


def signed16(bits: Tensor) -> Tensor:
    """int16 of the lowest 16 bits, which are in [0, 65536)."""
    return ((bits ^ 0x8000) - 0x8000).to(torch.int16)


def pack_fields(values: Tensor, width: int) -> Tensor:
    """Fields of 1, 2 or 4 bits, uint8 [n] -> uint8 [⌈n width / 8⌉], the first field lowest.

    >>> pack_fields(torch.tensor([1, 2, 3, 0, 1], dtype=torch.uint8), 2)
    tensor([57,  1], dtype=torch.uint8)
    """
    each = 8 // width
    padded = torch.zeros(-(-len(values) // each) * each, dtype=torch.uint8, device=values.device)
    padded[: len(values)] = values
    places = torch.arange(0, 8, width, dtype=torch.uint8, device=values.device)
    return (padded.view(-1, each) << places).sum(-1, dtype=torch.uint8)


def unpack_fields(packed: Tensor, width: int, n: int) -> Tensor:
    """The inverse of `pack_fields`: uint8 [n]."""
    places = torch.arange(0, 8, width, dtype=torch.uint8, device=packed.device)
    return (packed.unsqueeze(-1) >> places & (1 << width) - 1).flatten()[:n]
