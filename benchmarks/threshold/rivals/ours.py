"""topk_threshold on one backend, into words that are there already."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.threshold.task import unpacked
from optprune_fast.ops.topk_threshold import topk_threshold
from optprune_fast.ops.words import word_count

Way = tuple[Callable[[], object], Callable[[], list[Tensor]]]


def prepare(backend: str, tensors: list[Tensor], k: int, pool: int) -> Way:
    shapes = [(t.shape[0], word_count(t.shape[1])) for t in tensors]
    device = tensors[0].device
    words = [torch.zeros(shape, dtype=torch.int64, device=device) for shape in shapes]
    pool_words = [torch.zeros_like(w) for w in words] if pool else None

    def run() -> object:
        return topk_threshold(tensors, k, pool, (words, pool_words), backend=backend)

    return run, lambda: [unpacked(w, t.shape[1]) for w, t in zip(words, tensors, strict=True)]
