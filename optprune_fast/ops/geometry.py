"""The size of a convolution's output: what contracts and implementations must agree on."""

from __future__ import annotations


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Positions that a kernel of `kernel` taps takes along an axis of `size`.

    >>> output_size(7, 3, stride=2, padding=1, dilation=1)
    4
    """
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
