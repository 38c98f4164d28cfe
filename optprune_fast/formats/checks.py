"""What `validate` of the formats asks: sizes first, then contents. Nothing here allocates more than a plane's size."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.formats.bits import offsets_dtype
from optprune_fast.ops.words import tail_mask, word_count
from optprune_fast.runtime.errors import message

WEIGHT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def require(holds: bool, where: str, rule: str, /, **arguments: object) -> None:
    if not holds:
        raise ValueError(message(where, rule, "these are not the planes of one weight; from_dense makes them",
                                 **arguments))


def require_plane(where: str, name: str, plane: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    require(plane.dtype == dtype and tuple(plane.shape) == shape, where,
            f"{name} must be {str(dtype).removeprefix('torch.')}{list(shape)}", **{name: plane})


def require_words(where: str, words: Tensor, rows: int, columns: int) -> None:
    require_plane(where, "words", words, torch.int64, (rows, word_count(columns)))
    if columns:
        require(not bool((words[:, -1] & ~tail_mask(columns)).any()), where, "bits past the last column must be zero",
                words=words, columns=columns)


def require_offsets(where: str, name: str, offsets: Tensor, entries: int, total: int, most: int) -> None:
    """Offsets of `entries` runs of values, `total` in all and at most `most` in each."""
    require_plane(where, name, offsets, offsets_dtype(total), (entries + 1,))
    counts = offsets[1:] - offsets[:-1]
    sound = (int(offsets[0]) == 0 and int(offsets[-1]) == total
             and bool(((counts >= 0) & (counts <= most) & (offsets[1:] <= total) & (offsets[1:] >= 0)).all()))
    require(sound, where, f"{name} must start at 0, never fall, rise by at most {most} and end at {total}",
            **{name: offsets})


def require_ascending(where: str, indices: Tensor, offsets: Tensor) -> None:
    """Indices rise strictly within every run of `offsets`."""
    rises = indices[1:] > indices[:-1]
    starts = offsets[1:-1].long() - 1
    rises[starts[(starts >= 0) & (starts < len(rises))]] = True  # from the last of a run to the first of the next
    require(bool(rises.all()), where, "columns must rise within a row", columns=indices)
