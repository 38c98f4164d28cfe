"""topk_threshold in C++: float32, float16 and bfloat16 on the CPU, one read of the weights."""

from __future__ import annotations

from array import array

import torch
from torch import Tensor

from optprune_fast.ops.topk_threshold.keys import key32, magnitude32
from optprune_fast.runtime import native
from optprune_fast.runtime.threads import thread_count

_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}  # as in csrc/kernels/topk_threshold/topk_threshold.h
_NAN = {"raise": 0, "keep": 1, "drop": 2}
_NO_HINT = -1


def missing() -> str | None:
    return native.missing("topk_threshold")


def declines(rows: list[Tensor], *rest: object) -> str | None:
    for weights in rows:
        if weights.device.type != "cpu":
            return f"takes CPU tensors, not {weights.device.type}"
        if weights.dtype not in _TYPES:
            return f"takes float32, float16 and bfloat16, not {str(weights.dtype).removeprefix('torch.')}"
    return None


def run(rows: list[Tensor], k: int, pool: int, words: list[Tensor], pool_words: list[Tensor] | None,
        hint: float | None, nan: str) -> tuple[float, int]:
    """Fill `words` and `pool_words`; return the threshold, and the first tensor with NaN if that is refused."""
    rows = [weights.contiguous() for weights in rows]
    table = array("q")
    for i, weights in enumerate(rows):
        table.extend((weights.data_ptr(), *weights.shape, _TYPES[weights.dtype], words[i].data_ptr(),
                      0 if pool_words is None else pool_words[i].data_ptr()))
    key, first, _ = native.module().topk_threshold(
        native.isa(), thread_count(), table.buffer_info()[0], len(rows), k, pool,
        _NO_HINT if hint is None else key32(hint), _NAN[nan])
    return magnitude32(key), first
