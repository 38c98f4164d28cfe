"""What sparse_linear means, in float64. Every implementation is judged against this."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.ops.slices import Slices
from optprune_fast.ops.walk import walk


def sparse_linear_reference(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor,
                            rows: Tensor, starts: Tensor, bias: Tensor | None = None) -> Tensor:
    """out[b, o] = bias[o] + sum over kept i of x[b, i] * weight[o, i], in float64."""
    weight = torch.zeros(*shape, dtype=torch.float64, device=x.device)
    for entry, row, column in walk(Slices(values, places, counts, rows, starts), shape[0], shape[1]):
        weight[row, column] = values[entry]
    out = x.double() @ weight.T
    return out if bias is None else out + bias.double()
