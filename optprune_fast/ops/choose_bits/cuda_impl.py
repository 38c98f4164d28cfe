"""choose_bits in CUDA C++: words on a CUDA device."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.ops.cuda_support import declines_device, with_unit_steps
from optprune_fast.runtime import cuda


def missing() -> str | None:
    return cuda.missing("choose_bits")


def declines(words: Tensor, counts: Tensor, seeds: Tensor) -> str | None:
    return declines_device(words, divmod(min(cuda.module().architectures()), 10))


def run(words: Tensor, counts: Tensor, seeds: Tensor) -> Tensor:
    with torch.cuda.device(words.device):  # torch's notion of the current device is what it was, whatever we set
        stream = torch.cuda.current_stream().cuda_stream
        return launch(words, counts, seeds, device=words.device.index, stream=stream)


def launch(words: Tensor, counts: Tensor, seeds: Tensor, *, device: int, stream: int) -> Tensor:
    words, counts, seeds = with_unit_steps(words), counts.contiguous(), seeds.contiguous()
    out = words.new_empty(words.shape)
    cuda.module().choose_bits(device, stream, words.data_ptr(), counts.data_ptr(), seeds.data_ptr(), out.data_ptr(),
                              words.shape[0], words.shape[1], words.stride(0))
    return out
