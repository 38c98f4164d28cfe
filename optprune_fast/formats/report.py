"""What a file of weights holds, layer by layer, in bytes, against dense and against the entropy bound."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bound import bound_bytes
from optprune_fast.formats.dense import Dense
from optprune_fast.formats.file import SparseFile, read
from optprune_fast.runtime.files import PathLike


@dataclass(frozen=True)
class LayerReport:
    """A pruned weight in a file. `values` is "raw", "exponent" or "entropy"; `bound` in bytes (formats/bound.py)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    format: str
    values: str
    weights: int
    kept: int
    bytes: int
    dense_bytes: int
    bound: float

    @property
    def density(self) -> float:
        return self.kept / max(1, self.weights)


@dataclass(frozen=True)
class FileReport:
    """A file of weights.

    layers:       the weights that are held sparse
    other_bytes:  of everything that is held as it is: biases, buffers, weights that are not pruned
    file_bytes:   of the whole file, its header included
    lost_zeros:   kept weights that were zero and that the file's layout does not tell from pruned ones
    """

    path: str
    target: str
    layers: tuple[LayerReport, ...]
    other_bytes: int
    file_bytes: int
    lost_zeros: int = 0

    @property
    def dense_bytes(self) -> int:
        """What the same tensors take dense."""
        return self.other_bytes + sum(layer.dense_bytes for layer in self.layers)

    @property
    def bound(self) -> float:
        """What they take at least, what is held as it is counted as it is."""
        return self.other_bytes + sum(layer.bound for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        rows = [{**asdict(layer), "shape": list(layer.shape), "density": layer.density} for layer in self.layers]
        return {"path": self.path, "target": self.target, "file_bytes": self.file_bytes,
                "dense_bytes": self.dense_bytes, "bound": self.bound, "other_bytes": self.other_bytes,
                "lost_zeros": self.lost_zeros, "layers": rows}

    def __str__(self) -> str:
        return (f"{self.path}: {self.file_bytes} bytes, {self.file_bytes / max(1, self.dense_bytes):.1%} of dense, "
                f"{self.file_bytes / max(1, self.bound):.3f} of the entropy bound")


def layer_report(name: str, held: SparseFormat, bitmask: Bitmask) -> LayerReport:
    """The row of a weight; `bitmask` is the same weight."""
    values = "exponent" if held.coded else "entropy" if held.name == "entropy" else "raw"
    nbytes = sum(plane.nbytes for plane in held.planes().values())
    return _row(name, bitmask, held.name, values, nbytes)


def foreign_layer_report(name: str, bitmask: Bitmask, layout: str, nbytes: int) -> LayerReport:
    """The row of a weight in somebody else's layout."""
    return _row(name, bitmask, layout, "raw", nbytes)


def _row(name: str, bitmask: Bitmask, format: str, values: str, nbytes: int) -> LayerReport:
    return LayerReport(name, bitmask.shape, str(bitmask.dtype).removeprefix("torch."), format, values, bitmask.numel,
                       bitmask.nnz, nbytes, bitmask.numel * bitmask.dtype.itemsize, bound_bytes(bitmask))


def inspect_file(path: PathLike) -> FileReport:
    """The report of a file of weights; it reads and checks all of it, a weight at a time."""
    with read(path) as file:
        layers = [layer_report(name, held, held.to_bitmask()) for name, held in file.items()
                  if not isinstance(held, Dense)]
        return file_report(path, file.metadata.get("target", ""), layers, _other_bytes(file))


def file_report(path: PathLike, target: str, layers: list[LayerReport], other_bytes: int,
                lost_zeros: int = 0) -> FileReport:
    return FileReport(os.fspath(path), target, tuple(layers), other_bytes, os.path.getsize(path), lost_zeros)


def _other_bytes(file: SparseFile) -> int:
    return sum(entry.nbytes for entry in file.entries.values() if entry.format == Dense.name)

