"""sparse_linear in C++: float32, bfloat16 and float16 on the CPU, sums in float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.ops.native_support import declines_short_floats, floats_in_place, planes_in_place
from optprune_fast.runtime import native
from optprune_fast.runtime.threads import thread_count


def missing() -> str | None:
    return native.missing("sparse_linear")


def declines(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
             starts: Tensor, bias: Tensor | None = None) -> str | None:
    return declines_short_floats(x)


def run(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
        starts: Tensor, bias: Tensor | None = None) -> Tensor:
    samples = floats_in_place(x)
    bias = None if bias is None else floats_in_place(bias)
    planes, addresses = planes_in_place(values, places, counts, rows, starts)
    out = torch.empty(*x.shape[:-1], shape[0])
    native.module().sparse_linear(
        native.isa(), thread_count(), samples.data_ptr(), *addresses, 0 if bias is None else bias.data_ptr(),
        out.data_ptr(), out.numel() // shape[0] if shape[0] else 0, shape[1], shape[0])
    del planes  # alive until here
    return out if x.dtype == torch.float32 else out.to(x.dtype)
