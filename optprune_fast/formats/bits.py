"""Rows of bits and what they select, moved and never computed with, so that every bit pattern survives.

    words int64 [O, ⌈I/64⌉]   viewed as bytes [O, 8 ⌈I/64⌉], each byte looked up as 8 flags: a byte a weight, not eight
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from optprune_fast.ops.words import WORD_BITS, row_counts, word_count

assert sys.byteorder == "little", "words are read byte by byte"

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_FLAGS = ((torch.arange(256).unsqueeze(1) >> torch.arange(8)) & 1).to(torch.bool)
_STEP = 1 << 19  # weights that are looked at together, which takes up to 32 bytes each


def patterns(tensor: Tensor) -> Tensor:
    """The same memory as integers: copying them is no arithmetic on any device."""
    return tensor.view(_INTEGERS[tensor.element_size()])


def flags(words: Tensor, columns: int) -> Tensor:
    """words int64 [O, ⌈I/64⌉] -> bool [O, I]."""
    used = words.contiguous().view(torch.uint8)[:, : -(-columns // 8)]
    return _FLAGS.to(words.device)[used.long()].flatten(1)[:, :columns]


def packed(kept: Tensor) -> Tensor:
    """bool [O, I] -> words int64 [O, ⌈I/64⌉] with a zero tail."""
    rows, columns = kept.shape
    words = word_count(columns)
    if not columns:  # no view turns nothing into wider nothing
        return torch.zeros(rows, 0, dtype=torch.int64, device=kept.device)
    padded = torch.zeros(rows, words * WORD_BITS, dtype=torch.uint8, device=kept.device)
    padded[:, :columns] = kept
    eights = padded.view(rows, words * 8, 8) << torch.arange(8, dtype=torch.uint8, device=kept.device)
    return eights.sum(-1, dtype=torch.uint8).view(torch.int64)


def steps(rows: int, columns: int) -> Iterator[slice]:
    """Slices of rows with a bounded number of weights, so that what is made on the way stays small."""
    step = max(1, _STEP // max(1, columns))
    return (slice(start, min(rows, start + step)) for start in range(0, rows, step))


def kept_columns(words: Tensor, columns: int, dtype: torch.dtype, mask: int = -1) -> Tensor:
    """The columns of the kept weights, row-major: [nnz], `column & mask` in a type that holds it."""
    parts = [torch.empty(0, dtype=dtype, device=words.device)]
    for rows in steps(words.shape[0], columns):
        parts.append((flags(words[rows], columns).nonzero()[:, 1] & mask).to(dtype))
    return torch.cat(parts)


def words_of(offsets: Tensor, indices: Tensor, columns: int) -> Tensor:
    """The inverse of `kept_columns`: words of rows whose kept columns are `indices[offsets[r] : offsets[r + 1]]`."""
    rows = len(offsets) - 1
    words = torch.zeros(rows, word_count(columns), dtype=torch.int64, device=indices.device)
    for part in steps(rows, columns):
        begin, end = int(offsets[part.start]), int(offsets[part.stop])
        counts = offsets[part.start + 1 : part.stop + 1] - offsets[part.start : part.stop]
        kept = torch.zeros(part.stop - part.start, columns, dtype=torch.bool, device=indices.device)
        row = torch.repeat_interleave(torch.arange(len(counts), device=indices.device), counts.long())
        kept[row, indices[begin:end].long()] = True
        words[part] = packed(kept)
    return words


def take(weight: Tensor, kept: Tensor) -> Tensor:
    """The values of a matrix [O, I] at the flags, row-major, bits as they are."""
    return torch.masked_select(patterns(weight), kept).view(weight.dtype)


def put(kept: Tensor, values: Tensor) -> Tensor:
    """The matrix that has the values at the flags, row-major, and +0.0 elsewhere."""
    out = torch.zeros(kept.shape, dtype=values.dtype, device=kept.device)
    patterns(out).masked_scatter_(kept, patterns(values))
    return out


def offsets_dtype(total: int) -> torch.dtype:
    """The type of offsets into `total` values: int32 while it can hold them.

    >>> offsets_dtype(2**31 - 1), offsets_dtype(2**31)
    (torch.int32, torch.int64)
    """
    return torch.int32 if total < 2**31 else torch.int64


def offsets(counts: Tensor) -> Tensor:
    """0 and the running sums of `counts` [n]: [n + 1]."""
    sums = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=sums[1:])
    return sums.to(offsets_dtype(int(sums[-1])))


def row_offsets(words: Tensor) -> Tensor:
    """Where each row's values begin, and the end: [O + 1]."""
    return offsets(row_counts(words))
