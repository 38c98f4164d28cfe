"""The best of NumPy: magnitudes into one buffer, its vector partition in place, a comparison, packed bits.

Every buffer is there before. It keeps all that equal the threshold.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.threshold.task import Case

NAME, EXACT = "np.partition", False


def declines(case: Case) -> str | None:
    if case.tensors > 1 or case.pool:
        return "one tensor, no pool"
    return None if case.dtype == "float32" else "bfloat16 is no type of NumPy, and it partitions float16 no faster"


def prepare(tensors: list[Tensor], k: int, pool: int) -> tuple[Callable[[], object], Callable[[], list[Tensor]]]:
    [weight] = [t.numpy() for t in tensors]
    flat = weight.reshape(-1)
    magnitudes, kept = np.empty_like(flat), np.empty(flat.shape, bool)
    place = len(flat) - k
    made: list[np.ndarray] = []

    def run() -> object:
        np.abs(flat, out=magnitudes)
        magnitudes.partition(place)
        threshold = magnitudes[place]
        np.abs(flat, out=magnitudes)
        np.greater_equal(magnitudes, threshold, out=kept)
        made[:] = [np.packbits(kept, bitorder="little")]
        return made

    return run, lambda: [torch.from_numpy(np.unpackbits(made[0], bitorder="little", count=len(flat))).bool()
                         .view(tensors[0].shape)]
