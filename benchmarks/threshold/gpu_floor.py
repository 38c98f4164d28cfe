"""The least that a mask costs on a GPU: one read of the weights and one write of words, by the plainest kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

HALVES, HALF = tl.constexpr(128), tl.constexpr(32)


@triton.jit  # type: ignore[untyped-decorator]
def read_and_mark(weights, words, BOUND: tl.constexpr):  # type: ignore[no-untyped-def]
    half, lane = tl.arange(0, HALVES), tl.arange(0, HALF)
    first = tl.program_id(0).to(tl.int64) * HALVES
    above = tl.load(weights + first * HALF + (half[:, None] * HALF + lane[None, :])) > BOUND
    tl.store(words + first + half, tl.sum(tl.where(above, 1 << lane[None, :], 0), axis=1))


def prepare(tensors: list[Tensor]) -> Callable[[], object]:
    """A read of all whole blocks of 4,096 weights, and a write of their words."""
    bits = {2: torch.int16, 4: torch.int32}
    flat = [t.flatten().view(bits[t.itemsize]) for t in tensors]
    words = [torch.empty(max(1, t.numel() // 32), dtype=torch.int32, device=t.device) for t in flat]

    def run() -> None:
        for weight, out in zip(flat, words, strict=True):
            if weight.numel() >= 4096:
                read_and_mark[(weight.numel() // 4096,)](weight, out, BOUND=15000, num_warps=8)

    return run
