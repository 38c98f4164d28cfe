"""Packed rows of bits: the representation that every kernel reads.

    weights of a row   w0 w1 … w63 | w64 w65 …        bit j of word k is weight 64k + j
    words of the row   [  word 0  ] [ w64 w65 0 0 … ]  past the last weight: zero (docs/FORMATS.md)

Words are `torch.int64` *bit patterns*: torch has few operators for unsigned 64-bit integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

WORD_BITS = 64
_ROWS_AT_ONCE = 256


def matrix(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a weight: O and the product of the rest; one row where there is no other dimension.

    >>> matrix((8, 3, 5, 5)), matrix((7,)), matrix(())
    ((8, 75), (1, 7), (1, 1))
    """
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def as_rows(weight: Tensor) -> Tensor:
    """The weight as that matrix, in its logical order.

    >>> as_rows(torch.zeros(8, 3, 5, 5)).shape
    torch.Size([8, 75])
    """
    return weight if weight.dim() == 2 else weight.reshape(matrix(weight.shape))


def word_count(columns: int) -> int:
    """Words that a row of `columns` bits takes.

    >>> word_count(0), word_count(64), word_count(65)
    (0, 1, 2)
    """
    return -(-columns // WORD_BITS)


def pack(dense: Tensor) -> Tensor:
    """Pack rows of booleans into words with a zero tail.

    dense:    bool [..., I]
    returns:  int64 [..., ⌈I/64⌉]

    >>> pack(torch.tensor([[True, False, True]]))
    tensor([[5]])
    """
    if dense.dtype != torch.bool:
        raise TypeError(f"pack: dense must be bool, not {dense.dtype}; try dense != 0")
    columns = dense.shape[-1]
    words = word_count(columns)
    padded = torch.nn.functional.pad(dense, (0, words * WORD_BITS - columns))
    bits = padded.reshape(*dense.shape[:-1], words, WORD_BITS).to(torch.int64)
    # Distinct powers of two add up without a carry, so the sum is the bitwise or, sign bit included.
    return (bits << torch.arange(WORD_BITS, device=dense.device)).sum(-1)


def unpack(words: Tensor, columns: int) -> Tensor:
    """Unpack words into rows of booleans.

    words:    int64 [..., ⌈columns/64⌉]
    returns:  bool [..., columns]

    >>> unpack(torch.tensor([[5]]), 3)
    tensor([[ True, False,  True]])
    """
    bits = (words.unsqueeze(-1) >> torch.arange(WORD_BITS, device=words.device)) & 1
    return bits.flatten(-2)[..., :columns].to(torch.bool)


def popcount(words: Tensor) -> Tensor:
    """Bits set in each word.

    words:    int64 [...]
    returns:  int64 [...]

    >>> popcount(torch.tensor([0, 5, -1]))
    tensor([ 0,  2, 64])
    """
    # The masks after each shift clear the sign that an arithmetic shift drags in. In place, for words are not small.
    out = words - (words >> 1).bitwise_and_(0x5555555555555555)
    half = (out >> 2).bitwise_and_(0x3333333333333333)
    out = out.bitwise_and_(0x3333333333333333).add_(half)
    out = out.add_(out >> 4).bitwise_and_(0x0F0F0F0F0F0F0F0F)
    return out.mul_(0x0101010101010101).bitwise_right_shift_(56).bitwise_and_(0x7F)


def row_counts(words: Tensor) -> Tensor:
    """Bits set in each row of words [O, W]: int64 [O]; a few rows at a time, for a weight's words are not small.

    >>> row_counts(torch.tensor([[5, -1], [0, 1]]))
    tensor([66,  1])
    """
    parts = [popcount(some).sum(1) for some in words.split(_ROWS_AT_ONCE)]
    return torch.cat(parts) if parts else words.new_zeros(0)


def tail_mask(columns: int) -> int:
    """The bits that the last word of a row of `columns` bits may use, as a signed bit pattern.

    >>> tail_mask(3), tail_mask(64)
    (7, -1)
    """
    used = columns % WORD_BITS
    return (1 << used) - 1 if used else -1
