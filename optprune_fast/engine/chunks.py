"""How many candidates and samples go through the network at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Three tensors of the largest size are alive at once in a plain chain: an input, an output, and a residual.
LIVE_TENSORS = 3


@dataclass(frozen=True)
class ChunkPlan:
    """candidates, samples: how many of each at a time."""

    candidates: int
    samples: int

    @staticmethod
    def of(memory: int, sample_bytes: int, weight_bytes: int, candidates: int, samples: int) -> ChunkPlan:
        """The largest chunk that `memory` bytes hold, samples first: a pass over all samples shares the decoded masks.

        sample_bytes:  of one candidate and one sample;   weight_bytes: of one candidate

        >>> ChunkPlan.of(1000, 1, 0, candidates=64, samples=100)
        ChunkPlan(candidates=10, samples=100)
        >>> ChunkPlan.of(1000, 20, 500, candidates=64, samples=100)
        ChunkPlan(candidates=1, samples=25)
        """
        at_once = max(1, min(samples, (memory - weight_bytes) // max(1, sample_bytes)))
        together = max(1, min(candidates, memory // max(1, at_once * sample_bytes + weight_bytes)))
        return ChunkPlan(together, at_once)


class _LargestOutput(TorchDispatchMode):
    """Watches a forward pass for the largest tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.nbytes for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.bytes = max(self.bytes, *sizes, 0)
        return out


def sample_bytes(forward: Callable[[], Tensor], samples: int) -> int:
    """Bytes that one sample keeps alive during `forward`, which runs `samples` of them through the dense network."""
    with torch.no_grad(), _LargestOutput() as seen:
        forward()
    largest: int = seen.bytes
    return LIVE_TENSORS * -(-largest // samples)
