"""NumPy's .npz: arrays `x`, `y`, or `x_train`, `y_train` and, both or neither, `x_test`, `y_test`."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy

from optprune_fast.data.dataset import Array, Raw
from optprune_fast.runtime.errors import IntegrityError, message


def read_npz(path: Path) -> Raw:
    """Inputs [N, ...] as stored, except 8-bit pictures [N, H, W], which become [N, 1, H, W]."""
    damaged = "the .npz file is cut short or damaged"
    if not zipfile.is_zipfile(path):
        raise IntegrityError(message("load", damaged, path=str(path), cause="no zip directory at its end"))
    try:
        with path.open("rb") as stream, numpy.load(stream, allow_pickle=False) as file:
            train_names, has_test = _names(path, set(file.files))
            train = _pair(path, file, *train_names)
            test = _pair(path, file, "x_test", "y_test") if has_test else None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise IntegrityError(message("load", damaged, path=str(path), cause=str(error))) from error
    return Raw(path.stem, train, test)


def _names(path: Path, names: set[str]) -> tuple[tuple[str, str], bool]:
    tests = names & {"x_test", "y_test"}
    for train in (("x_train", "y_train"), ("x", "y")):
        if set(train) <= names and len(tests) in (0, 2):
            return train, len(tests) == 2
    rule = "the .npz must hold x, y or x_train, y_train, and both or neither of x_test, y_test"
    raise ValueError(message("load", rule, "numpy.savez(path, x=x, y=y)", path=str(path), arrays=sorted(names)))


def _pair(path: Path, file: numpy.lib.npyio.NpzFile, x_name: str, y_name: str) -> tuple[Array, Array]:
    x, y = _array(path, file, x_name), _array(path, file, y_name)
    return (x[:, None] if x.dtype == "uint8" and x.ndim == 3 else x), y


def _array(path: Path, file: numpy.lib.npyio.NpzFile, name: str) -> Array:
    try:
        array: Array = file[name]
    except ValueError as error:
        # NumPy refuses arrays of Python objects, which would run code from the file, and half-written arrays.
        rule = f"array {name} cannot be read"
        way_out = "save plain arrays of one shape and one number type"
        raise IntegrityError(message("load", rule, way_out, path=str(path), cause=str(error))) from error
    return array
