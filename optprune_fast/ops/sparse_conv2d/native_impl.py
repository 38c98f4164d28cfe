"""sparse_conv2d in C++: float32, bfloat16 and float16 on the CPU, sums in float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.ops.geometry import output_size
from optprune_fast.ops.native_support import declines_short_floats, floats_in_place, planes_in_place
from optprune_fast.runtime import native
from optprune_fast.runtime.threads import thread_count


def missing() -> str | None:
    return native.missing("sparse_conv2d")


def declines(x: Tensor, *rest: object) -> str | None:
    return declines_short_floats(x)


def run(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
        starts: Tensor, bias: Tensor | None = None, stride: Sequence[int] = (1, 1), padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1), groups: int = 1) -> Tensor:
    samples = floats_in_place(x)
    bias = None if bias is None else floats_in_place(bias)
    planes, addresses = planes_in_place(values, places, counts, rows, starts)
    plane = (output_size(x.shape[i + 2], shape[i + 2], stride[i], padding[i], dilation[i]) for i in range(2))
    out = torch.empty(x.shape[0], shape[0], *plane)
    native.module().sparse_conv2d(
        native.isa(), thread_count(), samples.data_ptr(), *addresses, 0 if bias is None else bias.data_ptr(),
        out.data_ptr(), tuple(x.shape), tuple(shape), tuple(stride), tuple(padding), tuple(dilation), groups)
    del planes  # alive until here
    return out if x.dtype == torch.float32 else out.to(x.dtype)
