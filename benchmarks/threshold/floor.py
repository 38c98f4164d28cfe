"""The time to read the weights once: `read_floor.cpp`, compiled when the benchmark starts."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

SOURCE = Path(__file__).with_name("read_floor.cpp")


@functools.cache
def _library() -> ctypes.CDLL:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise RuntimeError("the read floor needs a C++ compiler: install g++ or clang++")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "read_floor.so"
        subprocess.run([compiler, "-O3", "-std=c++17", "-shared", "-fPIC", SOURCE, "-o", made], check=True)
        library = ctypes.CDLL(str(made))
    library.read_all.argtypes, library.read_all.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_uint64
    library.instructions.restype = ctypes.c_char_p
    return library


def instructions() -> str:
    """What the loop reads with: "AVX2" or "AVX-512"."""
    return str(_library().instructions().decode())


def read(tensors: Sequence[Tensor]) -> None:
    """Read every byte of contiguous tensors, on one thread."""
    library = _library()
    for tensor in tensors:
        library.read_all(tensor.data_ptr(), tensor.numel() * tensor.element_size())
