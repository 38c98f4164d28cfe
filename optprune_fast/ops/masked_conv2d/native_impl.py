"""masked_conv2d in C++: float32 on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.ops.masked_conv2d.geometry import output_shape
from optprune_fast.ops.native_support import candidate_step, declines_float32, rows_in_place
from optprune_fast.runtime import native
from optprune_fast.runtime.threads import thread_count


def missing() -> str | None:
    return native.missing("masked_conv2d")


def declines(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
             dilation: Sequence[int], groups: int) -> str | None:
    return declines_float32(x)


def run(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
        dilation: Sequence[int], groups: int) -> Tensor:
    x, words, weight = rows_in_place(x, 4), rows_in_place(words, 2), weight.contiguous()
    out = torch.empty(output_shape(x, weight, words, stride, padding, dilation))
    native.module().masked_conv2d(
        native.isa(), thread_count(), x.data_ptr(), weight.data_ptr(), words.data_ptr(), out.data_ptr(),
        words.shape[0], tuple(x.shape[-4:]), tuple(weight.shape), tuple(stride), tuple(padding), tuple(dilation),
        groups, candidate_step(x, 5), candidate_step(words, 3))
    return out
