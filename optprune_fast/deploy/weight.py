"""A compressed weight as a module: its planes are buffers, so it moves, copies, saves and loads as a model does.

    on a CPU: slices (optprune_fast/ops/slices.py)      to("cuda") ▸      on a GPU: rows (optprune_fast/ops/rows.py)
    and in state dicts, wherever they are made           ◂ to("cpu")      the same values and places, bit by bit
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optprune_fast.deploy import gpu
from optprune_fast.ops import rows
from optprune_fast.ops.rows import Rows
from optprune_fast.ops.slices import Slices, check_slices, dense_weight, from_slices, tile_count, to_slices
from optprune_fast.ops.words import word_count


class SparseWeight(nn.Module):
    """A weight [O, …], compressed. Layers that share a weight share this module.

    planes:   `Slices` or `Rows`, whose tensors are the buffers
    shape:    of the dense weight
    groups:   of the convolution that uses it
    in_rows:  whether the planes are rows, which is so on a GPU: `.to` changes the layout once, where the device does

    `state_dict()` holds slices, which it makes on a GPU; `load_state_dict` takes those of any mask of this shape,
    checks them, and keeps device and type. `.half()` and the like change the values.
    """

    values: Tensor

    def __init__(self, planes: Slices | Rows, shape: Sequence[int], groups: int = 1) -> None:
        super().__init__()
        self.shape, self.groups = torch.Size(shape), groups
        self._hold(planes)

    @staticmethod
    def of(words: Tensor, values: Tensor, shape: Sequence[int], *, groups: int = 1, coded: bool | None = None
           ) -> SparseWeight:
        """From a mask, int64 [O, ⌈I/64⌉], and the kept values, row after row, as their device wants them. coded: words
        for places; None: what is smaller."""
        columns = math.prod(shape[1:])
        if coded is None:
            coded = smaller_coded(shape[0], columns, values.numel())
        planes = (gpu.rows_of(words, values, shape, coded=coded) if gpu.serves(values.device) else
                  to_slices(words, values, columns, groups=groups, coded=coded))
        return SparseWeight(planes, shape, groups)

    @property
    def planes(self) -> Slices | Rows:
        """What is held."""
        return (Rows if self.in_rows else Slices)(**self._buffers)  # type: ignore[arg-type]

    @property
    def slices(self) -> Slices:
        """Slices, held or made."""
        held = self.planes
        if isinstance(held, Slices):
            return held
        return to_slices(*self.to_mask(), self.columns, groups=self.groups, coded=held.coded)

    @property
    def columns(self) -> int:
        return math.prod(self.shape[1:])

    @property
    def format(self) -> str:
        """"bitmask" or "index": how the places of the values are kept."""
        return "bitmask" if self.planes.coded else "index"

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
        return sum(plane.nbytes for plane in self.planes)

    def to_dense(self) -> Tensor:
        """The weight with its zeros, a new tensor."""
        held = self.planes
        if isinstance(held, Rows):
            return rows.dense_weight(held, self.shape)
        return dense_weight(held, self.shape, groups=self.groups)

    def to_mask(self) -> tuple[Tensor, Tensor]:
        """The mask, int64 [O, ⌈I/64⌉], and the kept values, row after row."""
        held = self.planes
        if isinstance(held, Rows):
            return gpu.bitmask_of(held, self.shape).words, held.values
        return from_slices(held, self.shape[0], self.columns, groups=self.groups)

    def forward(self) -> Tensor:
        return self.to_dense()

    def extra_repr(self) -> str:
        return f"{list(self.shape)}, {self.format}, density={self.density:.4g}, {self.nbytes} bytes"

    def _hold(self, planes: Slices | Rows) -> None:
        self._buffers.clear()
        self.in_rows = isinstance(planes, Rows)
        for name, plane in planes._asdict().items():
            self.register_buffer(name, plane)

    def _settle(self) -> None:
        """Lie as the device wants it."""
        if not self.values.is_meta and self.in_rows != gpu.serves(self.device):
            self._hold(self.slices if self.in_rows else
                       gpu.rows_of(*self.to_mask(), self.shape, coded=self.planes.coded))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SparseWeight:
        filled = not self.values.is_meta  # what comes from there holds nothing yet
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if filled:
            self._settle()
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, plane in self.slices._asdict().items():
            destination[prefix + name] = plane if keep_vars else plane.detach()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        found = {name: state_dict.get(prefix + name) for name in Slices._fields}
        if all(isinstance(plane, Tensor) for plane in found.values()):
            planes = Slices(**found)  # type: ignore[arg-type]
            check_slices(planes, self.shape[0], self.columns, groups=self.groups, where=f"{prefix}load_state_dict")
            device, types = self.device, {name: plane.dtype for name, plane in planes._asdict().items()}
            types["values"] = self.dtype
            if self.in_rows:
                self._hold(Slices(*(torch.empty(0, device=device) for _ in planes)))
            for name, plane in planes._asdict().items():  # of another mask: another size
                own = getattr(self, name)
                if plane.shape != own.shape or own.dtype != types[name]:
                    setattr(self, name, torch.empty(plane.shape, dtype=types[name], device=device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._settle()


def smaller_coded(rows: int, columns: int, kept: int) -> bool:
    """Whether words take fewer bytes than a byte a value and two a row and tile; in both layouts.

    >>> smaller_coded(256, 256, 6554), smaller_coded(256, 256, 13107)
    (False, True)
    """
    return 8 * rows * word_count(columns) < kept + 2 * rows * tile_count(columns)
