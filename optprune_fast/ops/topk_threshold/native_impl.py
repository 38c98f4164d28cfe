"""topk_threshold in C++: float32, float16 and bfloat16 on the CPU, one read of the weights."""

from __future__ import annotations

from array import array
from itertools import repeat

import torch
from torch import Tensor

from optprune_fast.ops.topk_threshold.keys import key32, magnitude32
from optprune_fast.ops.words import matrix
from optprune_fast.runtime import native
from optprune_fast.runtime.threads import thread_count

_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}  # as in csrc/kernels/topk_threshold/topk_threshold.h
_NAN = {"raise": 0, "keep": 1, "drop": 2}
_NO_HINT = -1


def missing() -> str | None:
    return native.missing("topk_threshold")


def declines(tensors: list[Tensor], *rest: object) -> str | None:
    if not tensors[0].is_cpu:
        return f"takes CPU tensors, not {tensors[0].device.type}"
    others = {weights.dtype for weights in tensors}.difference(_TYPES)
    return f"takes float32, float16 and bfloat16, not {str(others.pop()).removeprefix('torch.')}" if others else None


def run(tensors: list[Tensor], k: int, pool: int, words: list[Tensor], pool_words: list[Tensor] | None,
        hint: float | None, nan: str) -> tuple[float, int]:
    """Fill `words` and `pool_words`; return the threshold, and the first tensor with NaN if that is refused."""
    tensors = [weights.contiguous() for weights in tensors]
    pools = repeat(0) if pool_words is None else (out.data_ptr() for out in pool_words)
    numbers: list[int] = []
    for weights, out, own_pool in zip(tensors, words, pools):  # noqa: B905  # zeros without end
        numbers += weights.data_ptr(), *matrix(weights.shape), _TYPES[weights.dtype], out.data_ptr(), own_pool
    table = array("q", numbers)
    key, first, _ = native.module().topk_threshold(
        native.isa(), thread_count(), table.buffer_info()[0], len(tensors), k, pool,
        _NO_HINT if hint is None else key32(hint), _NAN[nan])
    return magnitude32(key), first
