"""What became of each layer, and why."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from optprune_fast.deploy.weight import SparseWeight
from optprune_fast.runtime.errors import message

ATTRIBUTE = "deployment"


@dataclass(frozen=True)
class Row:
    """One prunable weight.

    format:  "bitmask", "index", "two_four" or "dense"
    nbytes, dense_bytes:  as held; as a dense tensor
    why:     what decided
    """

    name: str
    shape: tuple[int, ...]
    density: float
    format: str
    nbytes: int
    dense_bytes: int
    why: str


@dataclass(frozen=True)
class Deployment:
    """All prunable weights of a model, each once, and what was preferred. `str()` is a table."""

    prefer: str
    rows: tuple[Row, ...]

    @property
    def nbytes(self) -> int:
        return sum(row.nbytes for row in self.rows)

    @property
    def dense_bytes(self) -> int:
        return sum(row.dense_bytes for row in self.rows)

    def __str__(self) -> str:
        head = ("layer", "shape", "kept", "held as", "bytes", "of dense", "why")
        cells = [(r.name, "x".join(map(str, r.shape)), f"{r.density:.1%}", r.format, str(r.nbytes),
                  f"{r.nbytes / max(1, r.dense_bytes):.1%}", r.why) for r in self.rows]
        cells.append(("all", "", "", "", str(self.nbytes), f"{self.nbytes / max(1, self.dense_bytes):.1%}",
                      f"prefer={self.prefer!r}"))
        widths = [max(len(row[i]) for row in (head, *cells)) for i in range(len(head) - 1)]
        return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip()
                         for row in (head, *cells))


def explain(model: nn.Module) -> Deployment:
    """What became of each prunable weight of a model that `convert` or `load` made; print it for a table.

    Raises `ValueError` for another model.
    """
    found = getattr(model, ATTRIBUTE, None)
    if not isinstance(found, Deployment):
        raise ValueError(message("explain", "the model was made neither by convert nor by load",
                                 "opf.convert(model, mask) makes one", model=type(model).__name__))
    return found


def row_of(name: str, weight: SparseWeight, why: str) -> Row:
    return Row(name, tuple(weight.shape), weight.density, weight.format, weight.nbytes,
               weight.shape.numel() * weight.values.element_size(), why)
