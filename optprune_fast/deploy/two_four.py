"""Two kept weights in every four columns, on a GPU: torch's own semi-structured weights, in its own linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from optprune_fast.ops.words import unpack

ROWS, COLUMNS = 32, 64  # what torch asks of a weight of 16-bit values: multiples of these


def takes(module: nn.Module, like: Tensor) -> bool:
    """Whether torch has it for such a layer: float32 it would round to tf32."""
    return (isinstance(module, nn.Linear) and like.dtype in (torch.float16, torch.bfloat16)
            and like.shape[0] % ROWS == 0 and like.shape[1] % COLUMNS == 0)


def fits(words: Tensor, columns: int) -> bool:
    """Whether a mask, int64 [O, ⌈I/64⌉], keeps at most two in every four columns.

    >>> fits(torch.tensor([[0b1010_0011]]), 8), fits(torch.tensor([[0b1110]]), 8)
    (True, False)
    """
    if columns % 4:
        return False
    return all(bool((unpack(some, columns).view(-1, 4).sum(1) <= 2).all()) for some in words.split(256))


def nbytes(like: Tensor) -> int:
    """Bytes of torch's form of a weight of 16-bit values: half of them, and 2 bits for each."""
    return like.nbytes * 9 // 16


def layers(modules: Sequence[nn.Module], weight: Tensor) -> list[nn.Module]:
    """torch's linear layers on the semi-structured form of a dense weight with zeros, in the places of those that share
    it; each keeps its bias."""
    packed = nn.Parameter(torch.sparse.to_sparse_semi_structured(weight), requires_grad=False)
    made: list[nn.Module] = []
    for module in modules:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        layer.weight = packed
        layer.register_parameter("bias", module._parameters["bias"])
        made.append(layer)
    return made
