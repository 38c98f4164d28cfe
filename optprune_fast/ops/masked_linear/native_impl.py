"""masked_linear in C++: float32 on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.ops.native_support import candidate_step, declines_float32, rows_in_place
from optprune_fast.runtime import native
from optprune_fast.runtime.threads import thread_count


def missing() -> str | None:
    return native.missing("masked_linear")


def declines(x: Tensor, weight: Tensor, words: Tensor) -> str | None:
    return declines_float32(x)


def run(x: Tensor, weight: Tensor, words: Tensor) -> Tensor:
    x, words, weight = rows_in_place(x, 2), rows_in_place(words, 2), weight.contiguous()
    (outputs, inputs), candidates, samples = weight.shape, words.shape[0], x.shape[-2]
    out = torch.empty(candidates, samples, outputs)
    native.module().masked_linear(
        native.isa(), thread_count(), x.data_ptr(), weight.data_ptr(), words.data_ptr(), out.data_ptr(),
        candidates, samples, inputs, outputs, candidate_step(x, 3), candidate_step(words, 3))
    return out
