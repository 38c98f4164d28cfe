"""What masked_linear means, in float64. Every implementation is judged against this."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.ops.words import unpack


def masked_linear_reference(x: Tensor, weight: Tensor, words: Tensor) -> Tensor:
    """out[p, b, o] = sum over kept i of x[p, b, i] * weight[o, i], in float64."""
    effective = weight.double() * unpack(words, weight.shape[1])
    return torch.matmul(x.double(), effective.transpose(1, 2))
