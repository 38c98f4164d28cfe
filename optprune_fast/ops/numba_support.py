"""What the Numba implementations share: compiling, two instructions Numba has no name for, threads.

Importing this module imports Numba, so only the `numba_impl` modules do, and they are imported on first need.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optprune_fast.runtime.threads import thread_count

prange: Any = range
fma: Any = None
trailing_zeros: Any = None

try:
    import numba
    from numba.extending import intrinsic
except ImportError as error:  # absent, or it refuses the numpy that is installed: its text says which
    _reason: str | None = f"Numba cannot be imported ({error}); pip install numba"
else:
    _reason = None
    prange = numba.prange

# Numba's default threading layer is not safe to enter from two Python threads, and aborts the process when it is.
_one_at_a_time = threading.Lock()


def missing() -> str | None:
    """Why no Numba implementation can run on this machine, or None if they can."""
    return _reason


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` at its first call, and keep the result on disk where Numba finds a folder it may write.

    Products and sums keep the order and the rounding that the source gives them (no fast-math), so results depend
    neither on the machine nor on the number of threads.
    """
    return _compiled(function, {"parallel": True, "nogil": True})


def called(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile what compiled functions call: one thread, division as in C."""
    return _compiled(function, {"nogil": True, "error_model": "numpy"})


def _compiled(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    if _reason is not None:
        return function  # never called: `missing` declines
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # Numba's word for "no folder to cache in"
        return numba.njit(**options)(function)  # type: ignore[no-any-return]


def allowed_threads() -> int:
    """`thread_count()`, or as many as Numba was started with."""
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    return min(thread_count(), most)


@contextmanager
def threads() -> Iterator[None]:
    """Let one caller at a time run parallel loops, on `allowed_threads()`."""
    with _one_at_a_time:
        before = numba.get_num_threads()
        numba.set_num_threads(allowed_threads())
        try:
            yield
        finally:
            numba.set_num_threads(before)


def declines_metadata(*tensors: Tensor) -> str | None:
    """Why these tensors are not for Numba: they must be in CPU memory, floating ones in single or double precision."""
    for tensor in tensors:
        if tensor.device.type != "cpu":
            return f"takes tensors on the CPU, not on {tensor.device}"
        if tensor.dtype not in (torch.float32, torch.float64, torch.int64):
            return f"takes float32 and float64, not {str(tensor.dtype).removeprefix('torch.')}"
    return None


def declines_all_but_float32(x: Tensor) -> str | None:
    """Why `x` is not for a Numba implementation in single precision."""
    if x.device.type != "cpu":
        return f"takes tensors on the CPU, not on {x.device}"
    return None if x.dtype == torch.float32 else f"takes float32, not {str(x.dtype).removeprefix('torch.')}"


def array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The tensor as a C-ordered array, bits as unsigned words; one layout, so one compilation for each precision."""
    view = tensor.detach().contiguous().numpy()
    return view.view(np.uint64) if view.dtype == np.int64 else view


if _reason is None:

    @intrinsic
    def fma(context: Any, a: Any, b: Any, c: Any) -> Any:
        """a · b + c, rounded once, as the native kernels do it."""
        return a(a, a, a), lambda context, builder, signature, given: builder.fma(*given)

    @intrinsic
    def trailing_zeros(context: Any, word: Any) -> Any:
        """The place of the lowest bit set in a word that is not zero."""

        def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            return builder.cttz(given[0], context.get_constant(numba.types.boolean, True))

        return word(word), code
