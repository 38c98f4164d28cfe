"""masked_linear in CUDA C++: float32 by fused multiply-adds, float16 and bfloat16 on tensor cores."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.ops.cuda_support import KINDS, declines_products, with_unit_steps
from optprune_fast.runtime import cuda


def missing() -> str | None:
    return cuda.missing("masked_linear")


def declines(x: Tensor, weight: Tensor, words: Tensor) -> str | None:
    return declines_products(x)


def run(x: Tensor, weight: Tensor, words: Tensor) -> Tensor:
    with torch.cuda.device(x.device):  # torch's notion of the current device is what it was, whatever the module sets
        return launch(x, weight, words, device=x.device.index, stream=torch.cuda.current_stream().cuda_stream)


def launch(x: Tensor, weight: Tensor, words: Tensor, *, device: int, stream: int) -> Tensor:
    x, weight, words = with_unit_steps(x), with_unit_steps(weight), with_unit_steps(words)
    (outputs, inputs), candidates, samples = weight.shape, words.shape[0], x.shape[-2]
    out = x.new_empty(candidates, samples, outputs)
    cuda.module().masked_linear(
        device, stream, KINDS[x.dtype], x.data_ptr(), weight.data_ptr(), words.data_ptr(), out.data_ptr(), candidates,
        samples, inputs, outputs, x.stride(0) if x.dim() == 3 else 0, x.stride(-2), weight.stride(0), words.stride(0),
        words.stride(1))
    return out
