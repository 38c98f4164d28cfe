"""How many threads our kernels use, and torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from optprune_fast.runtime.environment import variable


def thread_count() -> int:
    """`OPTPRUNE_THREADS` where it is set, else `torch.get_num_threads()`.

    >>> thread_count() >= 1
    True
    """
    wish = variable("OPTPRUNE_THREADS")
    if not wish:
        return torch.get_num_threads()
    if not wish.isdecimal() or int(wish) < 1:
        raise ValueError(f"OPTPRUNE_THREADS must be a whole number of at least 1, not {wish!r}")
    return int(wish)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch runs on one thread: its matrix products round differently on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
