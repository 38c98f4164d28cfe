"""What sparse_conv2d means, in float64. Every implementation is judged against this."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.ops.slices import Slices
from optprune_fast.ops.walk import walk


def sparse_conv2d_reference(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor,
                            rows: Tensor, starts: Tensor, bias: Tensor | None = None, stride: Sequence[int] = (1, 1),
                            padding: Sequence[int] = (0, 0), dilation: Sequence[int] = (1, 1),
                            groups: int = 1) -> Tensor:
    """torch's convolution by the weight whose kept entries the planes name, in float64."""
    weight = torch.zeros(*shape, dtype=torch.float64, device=x.device)
    matrix = weight.view(shape[0], -1) if weight.numel() else weight
    slices = Slices(values, places, counts, rows, starts)
    for entry, row, column in walk(slices, shape[0], shape[1] * shape[2] * shape[3], groups=groups):
        matrix[row, column] = values[entry]
    return torch.nn.functional.conv2d(x.double(), weight, None if bias is None else bias.double(), tuple(stride),
                                      tuple(padding), tuple(dilation), groups)
