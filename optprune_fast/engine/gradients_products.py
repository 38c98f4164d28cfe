"""The gradient of a layer's weight from its inputs and the gradients of its outputs.

A layer is G matrix products at T positions: d [B, G, O, T] and x [B, G, T, I] make each sample's gradient, the product
d x [B, G, O, I]. At a single position nothing is needed for each sample: the sum over samples is d^T x, and since a
sample's gradient is one term, d x, the sum of their squares is (d²)^T x².
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from optprune_fast.engine.masked_weight import _Call, _pad_same, _per_axis

CACHE = 2 << 20  # bytes of temporaries; measured: with more they leave the cache, with fewer there are many calls


@dataclass(frozen=True)
class Use:
    """One use of a weight by a linear layer or a convolution: the call, its inputs [B, …] and the gradients [B, …] of
    its outputs."""

    call: _Call
    x: Tensor
    d: Tensor

    @property
    def spatial(self) -> int:
        return self.call.weight.dim() - 2

    @property
    def positions(self) -> int:
        shape = self.d.shape[2:] if self.spatial else self.d.shape[1:-1]
        return shape.numel()

    def factors(self, samples: slice, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """d [B, G, O, T] and x [B, G, T, I] of some samples."""
        x, d = self.x[samples].to(dtype), self.d[samples].to(dtype)
        B = len(x)
        if not self.spatial:
            return (d.reshape(B, 1, self.positions, d.shape[-1]).transpose(2, 3),
                    x.reshape(B, 1, self.positions, x.shape[-1]))
        G = self.call.groups
        return (d.reshape(B, G, d.shape[1] // G, self.positions),
                self._patches(x).reshape(B, G, -1, self.positions).transpose(2, 3))

    def _patches(self, x: Tensor) -> Tensor:
        """[B, C, *kernel, *places]: what each tap of the kernel meets at each place; a copy of strided views, which
        is several times faster than `F.unfold`."""
        kernel = list(self.call.weight.shape[2:])
        stride, dilation = _per_axis(self.call.stride, self.spatial), _per_axis(self.call.dilation, self.spatial)
        if self.call.padding == "same":
            x = _pad_same(x, kernel, dilation)
        elif self.call.padding != "valid":
            x = F.pad(x, [pad for pad in reversed(_per_axis(self.call.padding, self.spatial)) for _ in range(2)])
        sample, channel, *axes = x.stride()
        taps = [step * spread for step, spread in zip(axes, dilation, strict=True)]
        places = [step * far for step, far in zip(axes, stride, strict=True)]
        return x.as_strided((*x.shape[:2], *kernel, *self.d.shape[2:]), (sample, channel, *taps, *places))


def add_products(uses: list[Use], first: Tensor, second: Tensor, memory: int) -> None:
    """Add the sums over samples of one weight's gradients, and of their squares.

    uses:    all uses of the weight; the gradients of one sample add up before they are squared
    memory:  bytes that the temporaries may take, as far as one sample allows
    """
    rows, columns = first.shape[0], first[0].numel()
    single = len(uses) == 1 and uses[0].positions == 1
    values = sum(use.positions * (rows + use.call.groups * columns) for use in uses) + (
        0 if single else 2 * rows * columns)
    at_once = max(1, min(memory, CACHE) // max(1, values * first.itemsize))
    for start in range(0, len(uses[0].x), at_once):
        factors = [use.factors(slice(start, start + at_once), first.dtype) for use in uses]
        if single:
            d, x = factors[0][0].squeeze(3).permute(1, 2, 0), factors[0][1].squeeze(2).transpose(0, 1)
            shape = (len(d), d.shape[1], columns)
            first.view(shape).baddbmm_(d, x)
            second.view(shape).baddbmm_(d.square(), x.square())
        else:
            each, *more = ((d @ x).flatten(1, 2) for d, x in factors)
            for other in more:
                each += other
            first.view(rows, columns).add_(each.sum(0))
            second.view(rows, columns).add_(each.square_().sum(0))
