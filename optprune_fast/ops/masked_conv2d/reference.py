"""What masked_conv2d means, in float64. Every implementation is judged against this."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.ops.masked_conv2d.geometry import output_shape
from optprune_fast.ops.words import unpack


def masked_conv2d_reference(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
                            dilation: Sequence[int], groups: int) -> Tensor:
    """out[p] = the convolution of x[p] with the kept weights alone, in float64."""
    mask = unpack(words, weight.shape[1:].numel()).reshape(words.shape[0], *weight.shape)
    x, weight = x.double(), weight.double()
    out = x.new_zeros(output_shape(x, weight, words, stride, padding, dilation))
    if weight.numel():  # a sum over no channels is zero; torch's convolution has another shape then
        for p in range(words.shape[0]):
            out[p] = torch.nn.functional.conv2d(x if x.dim() == 4 else x[p], weight * mask[p], None, stride, padding,
                                                dilation, groups)
    return out
