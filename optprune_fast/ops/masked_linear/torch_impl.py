"""masked_linear in plain torch: any device, any floating dtype."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.ops.words import unpack


def missing() -> str | None:
    return None


def declines(x: Tensor, weight: Tensor, words: Tensor) -> str | None:
    return None


def run(x: Tensor, weight: Tensor, words: Tensor) -> Tensor:
    out = x.new_empty(words.shape[0], x.shape[-2], weight.shape[0])
    for p in range(words.shape[0]):  # one candidate at a time: memory does not grow with P × weights
        effective = weight * unpack(words[p], weight.shape[1])
        torch.matmul(x if x.dim() == 2 else x[p], effective.T, out=out[p])
    return out
