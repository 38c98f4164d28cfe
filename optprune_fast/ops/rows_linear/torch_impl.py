"""rows_linear in plain torch: any device, any floating dtype; a band of 256 rows is dense at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.ops.rows import Rows, dense_bands


def missing() -> str | None:
    return None


def declines(x: Tensor, *rest: object) -> str | None:
    return None


def run(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, starts: Tensor,
        bias: Tensor | None = None) -> Tensor:
    out = x.new_empty(*x.shape[:-1], shape[0])
    for part, weight in dense_bands(Rows(values, places, counts, starts), *shape):
        out[..., part] = torch.nn.functional.linear(x, weight, None if bias is None else bias[part])
    return out
