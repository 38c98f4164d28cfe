"""masked_linear in CUDA C++: float32 by fused multiply-adds, float16 and bfloat16 on tensor cores."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.ops.cuda_support import declines_device, declines_dtype, with_unit_steps
from optprune_fast.runtime import cuda

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # csrc/kernels/masked_linear/cuda.h
TENSOR_CORES = (8, 0)  # the oldest with the instructions that the kernel of 16-bit types takes


def missing() -> str | None:
    return cuda.missing("masked_linear")


def declines(x: Tensor, weight: Tensor, words: Tensor) -> str | None:
    reason = declines_dtype(x, *KINDS)
    if reason:
        return reason
    code = [divmod(number, 10) for number in cuda.module().architectures()]
    able = code if x.dtype == torch.float32 else [capability for capability in code if capability >= TENSOR_CORES]
    if not able:
        return ("was built for compute capability {}.{} and older, 16-bit types need code for {}.{}; CUDAARCHS=80 when "
                "building adds it".format(*max(code), *TENSOR_CORES))
    return declines_device(x, min(able))


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
