"""The shape of a convolution's output: what the contract and every implementation must agree on."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from optprune_fast.ops.geometry import output_size


def output_shape(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
                 dilation: Sequence[int]) -> tuple[int, ...]:
    """[P, B, O, H', W'] of a call."""
    plane = (output_size(x.shape[i - 2], weight.shape[i + 2], stride[i], padding[i], dilation[i]) for i in range(2))
    return (words.shape[0], x.shape[-4], weight.shape[0], *plane)
