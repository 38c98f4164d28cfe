"""masked_linear in CUDA C++: float32 by fused multiply-adds, float16 and bfloat16 on tensor cores."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from optprune_fast.ops.cuda_support import KINDS, declines_products, with_unit_steps
from optprune_fast.runtime import cuda

WAYS = {"fma": 0, "mma": 1, "wgmma": 2}  # csrc/kernels/masked_linear/cuda.h: by which instructions a kernel multiplies
WARPGROUPS = (9, 0)  # the only capability with those of wgmma
ROWS_START = 16  # at multiples of so many bytes, for wgmma

# way -> launches. Tests and scripts/gpu_check read it to prove that the way they name has run.
launches: Counter[str] = Counter()


def missing() -> str | None:
    return cuda.missing("masked_linear")


def declines(x: Tensor, weight: Tensor, words: Tensor) -> str | None:
    return declines_products(x)


def ways(x: Tensor, weight: Tensor) -> list[str]:
    """Those that serve a call which is not declined, the one that is taken first."""
    if x.dtype == torch.float32:
        return ["fma"]
    fits = _rows_start(x) and _rows_start(weight)
    if fits and cuda.module().has_sm90a and torch.cuda.get_device_capability(x.device) == WARPGROUPS:
        return ["wgmma", "mma"]
    return ["mma"]


def _rows_start(tensor: Tensor) -> bool:
    steps = (tensor.element_size() * step for step in tensor.stride()[:-1])
    return all(start % ROWS_START == 0 for start in (tensor.data_ptr(), *steps))


def run(x: Tensor, weight: Tensor, words: Tensor, *, way: str | None = None) -> Tensor:
    """way: one of `ways`, or None for the first."""
    x, weight = with_unit_steps(x), with_unit_steps(weight)
    able = ways(x, weight)
    if way is not None and way not in able:
        raise ValueError(f"masked_linear: this call is served by {' or '.join(able)}, not by {way}")
    with torch.cuda.device(x.device):  # torch's notion of the current device is what it was, whatever the module sets
        return launch(x, weight, words, device=x.device.index, stream=torch.cuda.current_stream().cuda_stream,
                      way=way or able[0])


def launch(x: Tensor, weight: Tensor, words: Tensor, *, device: int, stream: int, way: str) -> Tensor:
    x, weight, words = with_unit_steps(x), with_unit_steps(weight), with_unit_steps(words)
    (outputs, inputs), candidates, samples = weight.shape, words.shape[0], x.shape[-2]
    out = x.new_empty(candidates, samples, outputs)
    cuda.module().masked_linear(
        device, stream, WAYS[way], KINDS[x.dtype], x.data_ptr(), weight.data_ptr(), words.data_ptr(), out.data_ptr(),
        candidates, samples, inputs, outputs, x.stride(0) if x.dim() == 3 else 0, x.stride(-2), weight.stride(0),
        words.stride(0), words.stride(1))
    launches[way] += 1
    return out
