"""The file of a model's weights: safetensors, each weight in a format of its own (docs/FORMATS.md).

    metadata   format optprune_fast.weights, version 1, sha256 of the header, entries: a row a weight, with its SHA-256
    tensors    "fc1.bias" of a dense entry; "fc1.weight/words", "fc1.weight/values" of a sparse one
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.dense import Dense
from optprune_fast.formats.registry import FORMATS
from optprune_fast.runtime.errors import IntegrityError, message
from optprune_fast.runtime.files import DTYPES, PathLike, content_of, save_tensors
from optprune_fast.runtime.tensor_file import TensorFile

KIND, VERSION = "weights", 1
MOST = 1 << 16  # weights that a byte may stand for: what is decoded is in proportion to what is there
_BY_NAME = {name: dtype for dtype, name in DTYPES.items()}


@dataclass(frozen=True)
class Entry:
    """A weight, as the header tells of it.

    aliases:     other names of the same tensor
    nnz:         kept weights, as stated; all of them for a dense entry
    planes:      names of its planes -> names of the file's tensors
    nbytes:      of its planes
    """

    name: str
    format: str
    sha256: str
    aliases: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    nnz: int
    parameters: Mapping[str, Any]
    planes: Mapping[str, str]
    nbytes: int


class SparseFile(Mapping[str, SparseFormat]):
    """A file of weights, open. `file[name]` reads one; nothing is kept. Use it in a `with` block, or `close` it.

    entries:   name -> `Entry`, in the order in which they were written
    metadata:  the other texts of the header
    """

    def __init__(self, path: PathLike) -> None:
        self._file = TensorFile(path, kind=KIND, version=VERSION)
        try:
            self.metadata = {name: text for name, text in self._file.metadata.items() if name != "entries"}
            self.entries = self._entries(self._file.metadata["entries"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            self._file.close()
            raise IntegrityError(message("read", f"the file does not hold weights: {error}",
                                         path=str(path))) from error

    @property
    def path(self) -> str:
        return self._file.path

    def _entries(self, text: str) -> dict[str, Entry]:
        stored, entries, left = self._file.stored, {}, set(self._file.stored)
        owned: dict[str, dict[str, str]] = {}
        for key in stored:
            owned.setdefault(key.rpartition("/")[0], {})[key.rpartition("/")[2]] = key
        for name, format_, digest, aliases, *more in json.loads(text):
            if format_ not in FORMATS:
                raise ValueError(f"{name} is in the format {format_!r}, which is none of {', '.join(FORMATS)}")
            if format_ == Dense.name:
                planes = {"values": name}
                dtype, shape, *_ = stored[name]
                nnz, parameters = math.prod(shape), {}
            else:
                planes = owned[name]
                shape, dtype, nnz, parameters = more
                shape, dtype = tuple(shape), _BY_NAME[dtype]
            if not all(type(x) is int and 0 <= x < 2**62 for x in (nnz, *shape)):
                raise ValueError(f"{name} has a shape or a count that is none")
            if name in entries or not planes or not left.issuperset(planes.values()):
                raise ValueError(f"{name} is there twice or not at all")
            left -= set(planes.values())
            nbytes = sum(stored[key].end - stored[key].begin for key in planes.values())
            if math.prod(shape) > MOST * (nbytes + 64):
                raise ValueError(f"{name} has more weights than its bytes can stand for")
            entries[name] = Entry(name, format_, digest, tuple(aliases), shape, dtype, nnz, parameters, planes, nbytes)
        if left:
            raise ValueError(f"no entry names {', '.join(sorted(left))}")
        return entries

    def __getitem__(self, name: str) -> SparseFormat:
        """The weight `name`, read now, on the CPU. Raises `IntegrityError` if a bit is not as it was written."""
        entry = self.entries.get(name) or next((e for e in self.entries.values() if name in e.aliases), None)
        if entry is None:
            raise KeyError(name)
        planes = {plane: self._file.read(key) for plane, key in sorted(entry.planes.items())}
        if _digest(planes) != entry.sha256:
            raise IntegrityError(message("read", f"the file is altered: the SHA-256 of {entry.name} is not the one "
                                         "written in it", "make the file again, or copy it again from where it was "
                                         "made", path=self.path))
        try:
            if entry.format == Dense.name:
                return Dense(entry.shape, planes["values"])
            held = FORMATS[entry.format].from_planes(entry.shape, entry.dtype, planes, entry.parameters)
            held.validate()
            if held.nnz != entry.nnz:
                raise ValueError(f"{held.nnz} kept weights, not {entry.nnz}")
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(message("read", f"{entry.name} is no weight in the format {entry.format}: {error}",
                                         path=self.path)) from error
        return held

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def verify(self) -> None:
        """Read everything once. Raises `IntegrityError` at the first thing that is not as it was written."""
        for held in self.values():
            try:
                held.to_bitmask()
            except ValueError as error:
                raise IntegrityError(message("read", str(error), path=self.path)) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> SparseFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: PathLike) -> SparseFile:
    """Open a file of weights: header and sizes are checked, tensors are read one at a time.

    Raises `FileNotFoundError`, or `IntegrityError` for a file that is damaged, of another kind, or of a newer version.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(message("read", "there is no such file", path=str(path)))
    return SparseFile(path)


def write(path: PathLike, weights: Mapping[str, SparseFormat], metadata: Mapping[str, str] | None = None,
          aliases: Mapping[str, tuple[str, ...]] | None = None) -> None:
    """Write weights, each in its format, aside and renamed. Equal content gives equal bytes.

    aliases: other names of a weight (tied ones); they stand in the file, the weight stands there once
    """
    tensors: dict[str, Tensor] = {}
    rows = []
    for name, held in weights.items():
        planes = dict(sorted(held.planes().items()))
        row: list[Any] = [name, held.name, _digest(planes), list((aliases or {}).get(name, ()))]
        if not isinstance(held, Dense):
            if held.numel > MOST * (sum(plane.nbytes for plane in planes.values()) + 64):
                raise ValueError(message("write", f"a byte may stand for at most {MOST} weights", "use bitmask",
                                         **{name: held}))
            row += [list(held.shape), DTYPES[held.dtype], held.nnz, held.parameters()]
        rows.append(row)
        for plane, tensor in planes.items():
            key = name if isinstance(held, Dense) else f"{name}/{plane}"
            if key in tensors:
                raise ValueError(message("write", "two tensors would have this name in the file", name=key))
            tensors[key] = tensor
    entries = json.dumps(rows, separators=(",", ":"))
    save_tensors(path, tensors, {**(metadata or {}), "entries": entries}, kind=KIND, version=VERSION, whole=False)


def _digest(planes: Mapping[str, Tensor]) -> str:
    """SHA-256 over the bytes of planes in the order of their names; types and shapes stand in the header."""
    digest = hashlib.sha256()
    for tensor in planes.values():
        digest.update(content_of(tensor))
    return digest.hexdigest()
