"""A compressed weight as a module: its planes are buffers, so it moves, copies, saves and loads as a model does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optprune_fast.ops.slices import Slices, check_slices, dense_weight, from_slices, tile_count, to_slices
from optprune_fast.ops.words import word_count

PLANES = Slices._fields


class SparseWeight(nn.Module):
    """A weight [O, …] in slices. Layers that share a weight share this module.

    shape:   of the dense weight
    groups:  of the convolution that uses it
    values, places, counts, rows, starts:  buffers (optprune_fast/ops/slices.py)

    `state_dict()` holds the planes; `load_state_dict` takes those of any mask of this shape, checks them, and keeps
    device and type. `.half()` and the like change the values.
    """

    values: Tensor
    places: Tensor
    counts: Tensor
    rows: Tensor
    starts: Tensor

    def __init__(self, slices: Slices, shape: Sequence[int], groups: int = 1) -> None:
        super().__init__()
        self.shape, self.groups = torch.Size(shape), groups
        for name, plane in zip(PLANES, slices, strict=True):
            self.register_buffer(name, plane)

    @staticmethod
    def of(words: Tensor, values: Tensor, shape: Sequence[int], *, groups: int = 1, coded: bool | None = None
           ) -> SparseWeight:
        """From a mask, int64 [O, ⌈I/64⌉], and the kept values, row after row. coded: words for places; None: what is
        smaller."""
        columns = math.prod(shape[1:])
        if coded is None:
            coded = smaller_coded(shape[0], columns, values.numel())
        return SparseWeight(to_slices(words, values, columns, groups=groups, coded=coded), shape, groups)

    @property
    def slices(self) -> Slices:
        return Slices(self.values, self.places, self.counts, self.rows, self.starts)

    @property
    def columns(self) -> int:
        return math.prod(self.shape[1:])

    @property
    def format(self) -> str:
        """"bitmask" or "index": how the places of the values are kept."""
        return "bitmask" if self.slices.coded else "index"

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        return self.values.device

    @property
    def density(self) -> float:
        """Kept / all weights; 0 for a weight without any."""
        return self.values.numel() / max(1, self.shape.numel())

    @property
    def nbytes(self) -> int:
        """Bytes of all planes."""
        return sum(plane.nbytes for plane in self.slices)

    def to_dense(self) -> Tensor:
        """The weight with its zeros, a new tensor."""
        return dense_weight(self.slices, self.shape, groups=self.groups)

    def to_mask(self) -> tuple[Tensor, Tensor]:
        """The mask, int64 [O, ⌈I/64⌉], and the kept values, row after row."""
        return from_slices(self.slices, self.shape[0], self.columns, groups=self.groups)

    def forward(self) -> Tensor:
        return self.to_dense()

    def extra_repr(self) -> str:
        return f"{list(self.shape)}, {self.format}, density={self.density:.4g}, {self.nbytes} bytes"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        found = {name: state_dict.get(prefix + name) for name in PLANES}
        if all(isinstance(plane, Tensor) for plane in found.values()):
            planes = Slices(**found)  # type: ignore[arg-type]
            check_slices(planes, self.shape[0], self.columns, groups=self.groups, where=f"{prefix}load_state_dict")
            for name, plane in planes._asdict().items():  # of another mask: another size
                own = getattr(self, name)
                if plane.shape != own.shape or (plane.dtype != own.dtype and not plane.dtype.is_floating_point):
                    dtype = own.dtype if plane.dtype.is_floating_point else plane.dtype
                    setattr(self, name, torch.empty(plane.shape, dtype=dtype, device=own.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def smaller_coded(rows: int, columns: int, kept: int) -> bool:
    """Whether words take fewer bytes than a byte a value and two a row and tile.

    >>> smaller_coded(256, 256, 6554), smaller_coded(256, 256, 13107)
    (False, True)
    """
    return 8 * rows * word_count(columns) < kept + 2 * rows * tile_count(columns)
