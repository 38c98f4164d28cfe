"""How many threads our kernels use."""

from __future__ import annotations

import os

import torch


def thread_count() -> int:
    """`OPTPRUNE_THREADS` where it is set, else `torch.get_num_threads()`.

    >>> thread_count() >= 1
    True
    """
    wish = os.environ.get("OPTPRUNE_THREADS")
    if not wish:
        return torch.get_num_threads()
    if not wish.isdecimal() or int(wish) < 1:
        raise ValueError(f"OPTPRUNE_THREADS must be a whole number of at least 1, not {wish!r}")
    return int(wish)
