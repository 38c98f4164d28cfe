"""masked_conv2d in plain torch: any device, any floating dtype."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.ops.masked_conv2d.geometry import output_shape
from optprune_fast.ops.words import unpack


def missing() -> str | None:
    return None


def declines(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
             dilation: Sequence[int], groups: int) -> str | None:
    return None


def run(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
        dilation: Sequence[int], groups: int) -> Tensor:
    out = x.new_empty(output_shape(x, weight, words, stride, padding, dilation))
    if not weight.numel():  # a sum over no channels is zero; torch's convolution has another shape then
        return out.zero_()
    for p in range(words.shape[0]):  # one candidate at a time: memory does not grow with P × weights
        mask = unpack(words[p], weight[0].numel()).reshape(weight.shape)
        out[p] = torch.nn.functional.conv2d(x if x.dim() == 4 else x[p], weight * mask, None, stride, padding,
                                            dilation, groups)
    return out
