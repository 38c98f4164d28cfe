"""Samples with noise: few of them say too little, and a network that is solved for them exactly over-fits.

The mean loss under noise of variance σ² is close to the loss plus ½ σ² times its curvature by the inputs: weights that
hang on small differences between samples cost something (Bishop: Training with noise is equivalent to Tikhonov
regularization, Neural Computation 7, 1995).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from optprune_fast.engine.batches import Batch


class Jittered:
    """Batches on a device, with fresh normal noise on the inputs each time that they are asked for.

    noise:  its standard deviation, as a share of that of all finite numbers of the input; 0 leaves all as it is.
            Whole numbers have none, nor what holds no entry for each sample.
    """

    def __init__(self, batches: list[Batch], device: torch.device, noise: float, seed: int) -> None:
        self.batches = [batch.to(device) for batch in batches]
        self.noise, self.made = noise, torch.Generator().manual_seed(seed)
        self.spread = _spread(self.batches) if noise else {}

    def fresh(self) -> list[Batch]:
        return [self._with_noise(batch) for batch in self.batches] if self.noise else self.batches

    def _with_noise(self, batch: Batch) -> Batch:
        args, kwargs = list(batch.args), dict(batch.kwargs)
        for name, value in batch.inputs().items():
            if value.is_floating_point():
                place: Any = args if isinstance(name, int) else kwargs
                place[name] = value + self.noise * self.spread[name] * torch.randn(
                    value.shape, generator=self.made, dtype=value.dtype).to(value.device)
        return replace(batch, args=tuple(args), kwargs=kwargs)


def _spread(batches: list[Batch]) -> dict[int | str, float]:
    """The standard deviation of each input that is not made of whole numbers."""
    numbers: dict[int | str, list[Tensor]] = {}
    for batch in batches:
        for name, value in batch.inputs().items():
            if value.is_floating_point():
                finite = value[value.isfinite()].double()
                numbers.setdefault(name, []).append(torch.stack([torch.tensor(finite.numel()).to(finite), finite.sum(),
                                                                 finite.square().sum()]))
    found = {}
    for name, sums in numbers.items():
        count, total, squares = torch.stack(sums).sum(0).tolist()
        found[name] = math.sqrt(max(0.0, squares / count - (total / count) ** 2)) if count else 0.0
    return found
