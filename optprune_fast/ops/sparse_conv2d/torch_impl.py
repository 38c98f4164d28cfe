"""sparse_conv2d in plain torch: any device, any floating dtype; the weight is dense meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.ops.slices import Slices, dense_weight


def missing() -> str | None:
    return None


def declines(x: Tensor, *rest: object) -> str | None:
    return None


def run(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
        starts: Tensor, bias: Tensor | None = None, stride: Sequence[int] = (1, 1), padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1), groups: int = 1) -> Tensor:
    weight = dense_weight(Slices(values, places, counts, rows, starts), shape, groups=groups)
    return torch.nn.functional.conv2d(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)
