"""torch.kthvalue of the magnitudes, then a comparison: it keeps all that equal the threshold."""

from __future__ import annotations

from torch import Tensor

from benchmarks.threshold.rivals.torch_ways import Prepared, magnitudes, no_pool

NAME, EXACT = "torch.kthvalue", False
declines = no_pool


def prepare(tensors: list[Tensor], k: int, pool: int) -> Prepared:
    n, made = sum(t.numel() for t in tensors), list[Tensor]()

    def run() -> object:
        threshold = magnitudes(tensors).kthvalue(n - k + 1).values
        made[:] = [t.abs() >= threshold for t in tensors]
        return made

    return run, lambda: list(made)
