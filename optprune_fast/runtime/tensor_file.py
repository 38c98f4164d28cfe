"""A tensor file, opened to read one tensor at a time (`save_tensors(…, whole=False)` writes it).

    length, header    checked when it is opened: SHA-256 of the header, every size and place
    tensors           read when they are asked for; whoever keeps their digests checks them
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optprune_fast.runtime.files import DIGEST, DTYPES, START, ZEROS, PathLike, broken, checked_header, require_kind

_BY_NAME = {name: dtype for dtype, name in DTYPES.items()}


class Stored(NamedTuple):
    """A tensor of a file: bytes `begin` to `end`, counted from the end of the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def kind_of(path: PathLike) -> str | None:
    """What a file says it holds, unchecked; None for a file that does not begin as ours do.

    >>> import tempfile
    >>> from optprune_fast.runtime.files import save_tensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tensors(f"{folder}/a", {}, {}, kind="mask")
    ...     kind_of(f"{folder}/a")
    'mask'
    """
    with open(path, "rb") as file:
        start = file.read(8 + len(START) + 40)[8:]
    if not start.startswith(START):
        return None
    return start.removeprefix(START).partition(b'"')[0].decode(errors="replace")


class TensorFile:
    """The tensors and texts of a file. Close it, or use it in a `with` block.

    metadata: all texts
    stored:   name -> `Stored`

    Raises `IntegrityError` if the header is not as it was written, or if the file is longer or shorter than it says.
    """

    def __init__(self, path: PathLike, *, kind: str, version: int = 1) -> None:
        self.path = os.fspath(path)
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (closed by `close`)
        try:
            self._first, listing = self._header(os.fstat(self._file.fileno()).st_size)
            self.metadata: dict[str, str] = listing.pop("__metadata__")
            require_kind(path, self.metadata, kind, version)
            self.stored = self._checked(listing)
        except BaseException:
            self._file.close()
            raise

    def _header(self, size: int) -> tuple[int, dict[str, Any]]:
        listing = checked_header(self.path, self._file.read(8 + len(START)), size, self._file)
        first = self._file.tell()
        self._file.seek(0)
        raw = self._file.read(first)
        at = raw.index(DIGEST) + len(DIGEST)
        found = hashlib.sha256(raw[:at] + ZEROS.encode() + raw[at + len(ZEROS) :]).hexdigest()
        if found.encode() != raw[at : at + len(ZEROS)]:
            raise broken(self.path, "the file is altered: the SHA-256 of its header is not the one written in it")
        return first, listing

    def _checked(self, listing: Mapping[str, Any]) -> dict[str, Stored]:
        """The tensors, once sizes fit types and shapes, and places follow one another without a gap."""
        stored, at = {}, 0
        try:
            for name, entry in sorted(listing.items(), key=lambda item: (*item[1]["data_offsets"], item[0])):
                (begin, end), shape = entry["data_offsets"], tuple(entry["shape"])
                dtype = _BY_NAME[entry["dtype"]]
                sizes = all(type(x) is int and x >= 0 for x in (begin, end, *shape)) and len(shape) < 64
                if not sizes or begin != at or end - begin != math.prod(shape) * dtype.itemsize:
                    raise ValueError(f"{name} does not take the bytes {begin} to {end}")
                stored[name], at = Stored(dtype, shape, begin, end), end
        except (KeyError, TypeError, ValueError) as error:
            raise broken(self.path, f"the file was not written by save_tensors: {error}") from error
        return stored

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU; nothing but itself is allocated."""
        dtype, shape, begin, end = self.stored[name]
        content = torch.empty(end - begin, dtype=torch.uint8)
        view, at = content.numpy().data, 0
        self._file.seek(self._first + begin)
        while at < len(view):
            count = self._file.readinto(view[at:])
            if not count:
                raise broken(self.path, f"the file is truncated: it ends in {name}")
            at += count
        return content.view(dtype).view(shape)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
