"""Triton: whether it is here, whether it can run anything, and why not. It is imported on first need."""

from __future__ import annotations

import functools
import os
from importlib import metadata

import torch

_WAY_OUT = "on Linux: pip install triton, in the version that torch asks for"


@functools.cache
def missing() -> str | None:
    """Why no Triton kernel can run on this machine, or None if one can."""
    if not (interpreted() or torch.cuda.is_available()):
        if torch.version.cuda is None:
            return "this torch is built without CUDA; install one that is built with it (pytorch.org lists them)"
        return "torch sees no CUDA device; it needs an NVIDIA GPU with a driver (nvidia-smi lists both)"
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"triton cannot be imported ({error}); {_WAY_OUT}"
    return interpreter_fault() if interpreted() else None


def interpreted() -> bool:
    """Whether Triton interprets its kernels on the CPU (`TRITON_INTERPRET=1`). It looks once, when it is imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def interpreter_fault() -> str | None:
    """Why the interpreter of this Triton cannot run a loop, or None if it can."""
    triton, numpy = (tuple(map(int, metadata.version(name).split(".")[:2])) for name in ("triton", "numpy"))
    if triton < (3, 7) and numpy >= (2, 4):
        return "the interpreter of Triton 3.6 needs numpy below 2.4, which still takes an array of one for a number"
    return None
