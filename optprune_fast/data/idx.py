"""The idx format of MNIST and its relatives.

    bytes   0  0 | type | n | d1 d1 d1 d1 | ... | dn dn dn dn | values
    n dimensions of 4 bytes each; dimensions and values big-endian, the last dimension runs fastest
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy

from optprune_fast.data.dataset import Array, Raw
from optprune_fast.runtime.errors import IntegrityError, message

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
DIMENSIONS = {"images": 3, "labels": 1}


def holds_idx(folder: Path) -> bool:
    """Whether the folder has at least one file named as MNIST's."""
    return any(_find(folder, f"{part}-{kind}") for part in ("train", "t10k") for kind in DIMENSIONS)


def read_idx_folder(folder: Path, *, digests: Mapping[str, str] | None = None) -> Raw:
    """Pictures [N, 1, H, W] and labels [N]; the test part is None where both of its files are absent.

    digests: sha256 of the bytes of each file after decompression, which also makes all four files required
    """
    has_test = digests is not None or any(_find(folder, f"t10k-{kind}") for kind in DIMENSIONS)
    parts = [
        tuple(_read_named(folder, f"{part}-{kind}", DIMENSIONS[kind], digests) for kind in DIMENSIONS)
        for part in (("train", "t10k") if has_test else ("train",))
    ]
    pairs = [(images[:, None], labels) for images, labels in parts]
    return Raw(folder.name, pairs[0], pairs[1] if has_test else None)


def read_idx(path: Path, *, digest: str | None = None) -> Array:
    """The array in one idx file, gzip-compressed where the name ends in .gz.

    digest: the sha256 that the decompressed bytes must have
    """
    data = _bytes(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in TYPES or data[3] == 0:
        rule = "not an idx file: it must start with 0, 0, a type code (8 for bytes) and the number of dimensions"
        raise IntegrityError(message("load", rule, path=str(path), starts_with=data[:4].hex(" ")))
    dtype, start = numpy.dtype(TYPES[data[2]]), 4 + 4 * data[3]
    if len(data) < start:
        raise IntegrityError(message("load", "the idx file ends inside its header", path=str(path), bytes=len(data)))
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4))
    wanted = start + math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        rule = "the idx file is cut short" if len(data) < wanted else "the idx file has bytes after its last value"
        raise IntegrityError(message("load", rule, path=str(path), shape=shape, bytes=len(data), expected=wanted))
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        way_out = "fetch the file again; or give the folder itself as the first argument, which checks no digest"
        found = hashlib.sha256(data).hexdigest()
        rule = "the sha256 of the decompressed file is not the published one"
        raise IntegrityError(message("load", rule, way_out, path=str(path), found=found, published=digest))
    return numpy.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _bytes(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        rule = "the gzip file is cut short or damaged"
        raise IntegrityError(message("load", rule, path=str(path), cause=str(error))) from error


def _file_names(stem: str) -> list[str]:
    """MNIST's own name, and the one with a dot that some unpackers leave; an unpacked file comes first."""
    n = DIMENSIONS[stem.split("-")[1]]
    return [f"{stem}{mark}idx{n}-ubyte{end}" for end in ("", ".gz") for mark in ("-", ".")]


def _find(folder: Path, stem: str) -> Path | None:
    return next((folder / name for name in _file_names(stem) if (folder / name).is_file()), None)


def _read_named(folder: Path, stem: str, dimensions: int, digests: Mapping[str, str] | None) -> Array:
    path = _find(folder, stem)
    if path is None:
        wanted = f"{_file_names(stem)[0]}[.gz]"
        raise FileNotFoundError(message("load", "a file is missing from the folder", folder=str(folder), file=wanted))
    array = read_idx(path, digest=digests[stem] if digests else None)
    if array.ndim != dimensions:
        rule = f"the idx file must have {dimensions} dimension{'s' if dimensions > 1 else ''}"
        raise ValueError(message("load", rule, path=str(path), shape=array.shape))
    return array
