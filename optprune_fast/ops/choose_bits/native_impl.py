"""choose_bits in C++: words on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.ops.native_support import rows_in_place
from optprune_fast.runtime import native
from optprune_fast.runtime.threads import thread_count


def missing() -> str | None:
    return native.missing("choose_bits")


def declines(words: Tensor, counts: Tensor, seeds: Tensor) -> str | None:
    return None if words.device.type == "cpu" else f"takes CPU tensors, not {words.device.type}"


def run(words: Tensor, counts: Tensor, seeds: Tensor) -> Tensor:
    words, counts, seeds = rows_in_place(words, 1), counts.contiguous(), seeds.contiguous()
    out = torch.empty(words.shape, dtype=torch.int64)
    native.module().choose_bits(
        native.isa(), thread_count(), words.data_ptr(), counts.data_ptr(), seeds.data_ptr(), out.data_ptr(),
        words.shape[0], words.shape[1], words.stride(0))
    return out
