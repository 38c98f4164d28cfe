"""Safe files: written aside, synced, renamed; and tensor files in which any flipped bit is found.

A reader of `path` sees the old file or the new one, whole, whatever happens to the writer:

    .3f9a….aside   written ── synced ──┐
    path           old file ───────────┴ rename ── new file ── folder synced
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from optprune_fast.runtime.errors import IntegrityError, message

PathLike = str | os.PathLike[str]


@contextmanager
def write_aside(path: PathLike) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`; what is written there replaces `path` when the block ends.

    If the block or the disk fails, the old file stays and the temporary one goes. Only a killed process leaves one
    behind (`.<random>.aside<suffix>`). The permissions are those of any new file; a symbolic link stays a link, and
    the file that it points to is replaced.

    Raises `OSError` before any work if there is no such folder, or `path` is a folder or a device.
    """
    target = _target(path)
    # The suffix stays last: libraries choose their format by it.
    aside = target.with_name(f".{secrets.token_hex(8)}.aside{target.suffix}")
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield aside
        _sync(aside)
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    _sync_folder(target.parent)


def write_bytes(path: PathLike, content: bytes) -> None:
    """Write a file aside, sync it, rename it."""
    with write_aside(path) as aside:
        aside.write_bytes(content)


def write_text(path: PathLike, text: str) -> None:
    """Write a UTF-8 file aside, sync it, rename it; line ends stay as they are."""
    write_bytes(path, text.encode())


def write_json(path: PathLike, value: object) -> None:
    """Write `value` as JSON, aside; raises `ValueError` for NaN and infinities, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The same document with null for what JSON cannot say.

    >>> finite({"a": [1.0, float("inf")], "b": "x"})
    {'a': [1.0, None], 'b': 'x'}
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sha256_file(path: PathLike) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and values, in hexadecimal: the same on every device and for any strides.

    >>> w = torch.arange(6.0).view(2, 3)
    >>> sha256_tensors({"w": w}) == sha256_tensors({"w": w.t().contiguous().t()})
    True
    """
    digest = hashlib.sha256(json.dumps(_listing(tensors)).encode())
    for name in _order(tensors):
        digest.update(content_of(tensors[name]))
    return digest.hexdigest()


# ---- tensor files: safetensors, which has no checksum, with a SHA-256 among its metadata (docs/FORMATS.md)
#
#     length (8)   {"__metadata__":{"format":"optprune_fast.<kind>","sha256":"<64 digits>","version":"1",…},…}   tensors
#     [ hashed    ][ hashed                                           zeros are hashed here                 ][ hashed  ]

START = b'{"__metadata__":{"format":"optprune_fast.'
DIGEST = b'"sha256":"'
ZEROS = "0" * 64
_HEADER_LIMIT = 100_000_000  # safetensors reads no longer one
_OURS = ("format", "sha256", "version")
DTYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.int32: "I32", torch.int64: "I64",
    torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64",
}


def save_tensors(path: PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, kind: str,
                 version: int = 1, whole: bool = True) -> None:
    """Save named tensors and texts as a safetensors file that `load_tensors` can check to the last bit.

    kind:     what the file holds; `load_tensors` asks for the same kind
    version:  of the kind; a reader that knows only lower ones refuses the file
    whole:    False for files that are read a tensor at a time (`TensorFile`): the SHA-256 is of the header alone, and
              the caller keeps those of the tensors among the metadata

    The metadata get `format`, `version` and `sha256`. Equal content gives equal bytes. Any safetensors reader can read
    the file. Raises `ValueError` for metadata of these names, `TypeError` for values that are no texts and for dtypes
    that safetensors lacks.
    """
    where = "save_tensors"
    if taken := sorted(set(_OURS) & metadata.keys()):
        raise ValueError(message(where, f"the metadata {', '.join(taken)} are written by save_tensors itself"))
    if wrong := [name for name, value in metadata.items() if not isinstance(value, str)]:
        raise TypeError(message(where, "metadata must be texts", "try str(value) or json.dumps(value)",
                                **{wrong[0]: metadata[wrong[0]]}))
    own = {"format": f"optprune_fast.{kind}", "sha256": ZEROS, "version": str(version)}
    listing = {"__metadata__": {**own, **dict(sorted(metadata.items()))}, **_listing(tensors)}
    header = json.dumps(listing, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors start aligned
    if len(header) > _HEADER_LIMIT:
        raise ValueError(message(where, "the metadata are too long for a safetensors file", bytes=len(header)))
    header = len(header).to_bytes(8, "little") + header
    with write_aside(path) as aside, open(aside, "wb") as file:
        digest = hashlib.sha256(header)
        file.write(header)
        for name in _order(tensors):
            content = content_of(tensors[name])
            if whole:
                digest.update(content)
            file.write(content)
        file.seek(header.index(DIGEST) + len(DIGEST))
        file.write(digest.hexdigest().encode())


def load_tensors(path: PathLike, *, kind: str, version: int = 1) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Load what `save_tensors` saved: the tensors, on the CPU, and all metadata.

    version: the highest that the caller can read

    Raises `IntegrityError` if a single bit or byte of the file differs from what was written, if the file is of
    another kind or of a newer version, or not one of ours.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        listing = checked_header(path, file.read(8 + len(START)), size, file)
        file.seek(0)
        content = file.read(size)
    at = content.index(DIGEST) + len(DIGEST)
    view, digest = memoryview(content), hashlib.sha256()
    for part in (view[:at], ZEROS.encode(), view[at + len(ZEROS) :]):
        digest.update(part)
    if digest.hexdigest().encode() != content[at : at + len(ZEROS)]:
        raise broken(path, "the file is altered: its SHA-256 is not the one written in it")
    metadata: dict[str, str] = listing.pop("__metadata__")
    require_kind(path, metadata, kind, version)
    try:
        tensors = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise broken(path, f"the file was not written by save_tensors: {error}") from error
    return {name: tensors[name] for name in listing}, metadata


def require_kind(path: PathLike, metadata: Mapping[str, str], kind: str, version: int) -> None:
    """Raise `IntegrityError` for a file of another kind or of a newer version."""
    if metadata["format"] != f"optprune_fast.{kind}":
        raise broken(path, f"the file holds {metadata['format']}, not optprune_fast.{kind}")
    if not metadata["version"].isdecimal() or int(metadata["version"]) > version:
        raise broken(path, f"the file is of version {metadata['version']}, newer than {version}, the last one known "
                      "here", "update optprune-fast")


def checked_header(path: PathLike, start: bytes, size: int, file: Any) -> dict[str, Any]:
    """The header as JSON, once all sizes are known to fit the file: nothing larger than the file is ever allocated."""
    if not START.startswith(start[8:]):
        raise broken(path, "this is not a file of optprune_fast, or its beginning is altered")
    length = int.from_bytes(start[:8], "little")
    if size < 8 + len(START) or length > size - 8:
        raise broken(path, f"the file is truncated, or its beginning altered: it ends after {size} bytes, inside its "
                      "header")
    raw = start[8:] + file.read(length - len(START))
    try:
        listing = json.loads(raw)
        end = 8 + length + max((entry["data_offsets"][1] for name, entry in listing.items() if name != "__metadata__"),
                               default=0)
        metadata = listing["__metadata__"]
        sound = (DIGEST in raw and isinstance(end, int) and set(_OURS) <= metadata.keys()
                 and all(isinstance(value, str) for value in metadata.values()))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise broken(path, f"the file is altered: its header cannot be read ({error})") from error
    if not sound:
        raise broken(path, "the file is altered: its header lacks what every header of ours has")
    if size < end:
        raise broken(path, f"the file is truncated: it has {size} of {end} bytes")
    if size > end:
        raise broken(path, f"the file is altered: it has {size - end} bytes too many")
    return dict(listing)


def broken(path: PathLike, rule: str, way_out: str = "make the file again, or copy it again from where it was "
            "made") -> IntegrityError:
    return IntegrityError(message("load_tensors", rule, way_out, path=os.fspath(path)))


def _order(tensors: Mapping[str, Tensor]) -> list[str]:
    """Widest elements first, so that each tensor starts at a multiple of its element's size."""
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))


def _listing(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Name -> dtype, shape and place, as a safetensors header has them."""
    listing: dict[str, dict[str, Any]] = {}
    at = 0
    for name in _order(tensors):
        t = tensors[name]
        if t.dtype not in DTYPES:
            raise TypeError(message("save_tensors", "the dtype has no name in our files", "", **{name: t}))
        if name == "__metadata__":
            raise ValueError(message("save_tensors", "no tensor can be called __metadata__", "", **{name: t}))
        listing[name] = {"dtype": DTYPES[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    return listing


def content_of(tensor: Tensor) -> memoryview:
    """The bytes of a tensor in logical order."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _target(path: PathLike) -> Path:
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(message("write", f"there is no folder {target.parent}", "make it first",
                                        path=os.fspath(path)))
    if target.is_dir():
        raise IsADirectoryError(message("write", "this is a folder, not a file", path=os.fspath(path)))
    if target.exists() and not target.is_file():
        raise OSError(message("write", "this is a device or a pipe, which no file can replace", path=os.fspath(path)))
    return target


def _sync(path: Path) -> None:
    """Wait until the content is on the disk: without it a rename may survive a power cut that the content does not."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened, and a rename is written through
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that sync no folders say so
            raise
    finally:
        os.close(handle)
