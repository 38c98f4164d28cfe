"""rows_linear in CUDA C++: kernels for few samples read a weight once, those for many make it dense in shared memory.

Which of them serves a call is written in `csrc/kernels/rows_linear/cuda_launches.h`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.ops.cuda_support import KINDS, declines_products, with_unit_steps
from optprune_fast.runtime import cuda


def missing() -> str | None:
    return cuda.missing("rows_linear")


def declines(x: Tensor, *rest: object) -> str | None:
    return declines_products(x)


def run(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, starts: Tensor,
        bias: Tensor | None = None) -> Tensor:
    with torch.cuda.device(x.device):  # torch's notion of the current device is what it was, whatever the module sets
        return launch(x, shape, values, places, counts, starts, bias, device=x.device.index,
                      stream=torch.cuda.current_stream().cuda_stream)


def launch(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, starts: Tensor,
           bias: Tensor | None, *, device: int, stream: int) -> Tensor:
    outputs, inputs = shape
    out = x.new_empty(*x.shape[:-1], outputs)
    flat = with_unit_steps(x.reshape(x.shape[:-1].numel(), inputs))
    planes = [values, places, counts, starts, *([] if bias is None else [bias])]
    planes = [plane.contiguous() for plane in planes]  # which must outlive the launch
    addresses = [plane.data_ptr() for plane in planes] + [0] * (bias is None)
    step = flat.stride(0) if flat.shape[0] > 1 else 0  # that of one sample says nothing, and could be odd
    cuda.module().rows_linear(
        device, stream, KINDS[x.dtype], flat.data_ptr(), *addresses, out.data_ptr(), flat.shape[0], inputs, outputs,
        step, places.dtype == torch.uint8, starts.dtype == torch.int64)
    return out
