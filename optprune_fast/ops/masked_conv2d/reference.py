"""What masked_conv2d means, in float64. Every implementation is judged against this."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.ops.words import unpack


def masked_conv2d_reference(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
                            dilation: Sequence[int], groups: int) -> Tensor:
    """out[p] = the convolution of x[p] with the kept weights alone, in float64."""
    mask = unpack(words, weight[0].numel()).reshape(-1, *weight.shape)
    x, weight = x.double(), weight.double()
    return torch.stack([
        torch.nn.functional.conv2d(x if x.dim() == 4 else x[p], weight * mask[p], None, stride, padding, dilation,
                                   groups)
        for p in range(words.shape[0])
    ])
