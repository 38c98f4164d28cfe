"""Memory that was given back to the allocator, given back to the system."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """glibc's; other allocators have none, or need none."""
    try:
        found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # no such thing as "this process" for the loader of this system
        return None
    return found


def give_back() -> None:
    """Freed memory between what is still held stays with a process otherwise, and its size grows by the largest that
    it ever needed on the way.

    >>> give_back()
    """
    trim = _trim()
    if trim is not None:
        trim(0)
