"""topk_threshold in CUDA C++: one pass over the weights between two bounds that a sample gives.

The plan of the work is in `csrc/kernels/topk_threshold/cuda.h`. Nothing waits for the device before the threshold is
read at the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.ops.topk_threshold.device_plan import BATCH_TILES, Plan, declines_tensors, run_planned
from optprune_fast.runtime import cuda

TILE_WORDS = 128  # csrc/kernels/topk_threshold/cuda.h
# Blocks that share the tiles, for each multiprocessor.
BLOCKS = 4


def missing() -> str | None:
    return cuda.missing("topk_threshold")


def declines(tensors: list[Tensor], *others: object) -> str | None:
    return declines_tensors(tensors, divmod(min(cuda.module().architectures()), 10))


def run(tensors: list[Tensor], k: int, pool: int, words: list[Tensor], pool_words: list[Tensor] | None,
        hint: float | None, nan: str) -> tuple[float, int]:
    """A sample costs less here than what a hint could spare, so the hint is not looked at."""
    with torch.cuda.device(tensors[0].device):  # torch's notion of the current device is what it was, whatever we set
        return run_planned(lambda plan: enqueue(plan, nan == "drop"), TILE_WORDS, tensors, k, pool, words, pool_words,
                           nan)


def enqueue(plan: Plan, drop: bool) -> Tensor:
    """`launch` on the current stream of the current device."""
    blocks = BLOCKS * torch.cuda.get_device_properties(plan.numbers.device).multi_processor_count
    stream = torch.cuda.current_stream()
    return launch(plan, device=stream.device_index, stream=stream.cuda_stream, blocks=blocks, drop=drop)


def launch(plan: Plan, *, device: int, stream: int, blocks: int, drop: bool) -> Tensor:
    """Enqueue everything. Returns int64 [2] on the device: the key of rank k; how many tensors there are from the first
    that holds NaN on, or 0."""
    module = cuda.module()

    def numbers(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=plan.numbers.device)

    ranks, tiles = plan.ranks, plan.tiles
    state = torch.zeros(module.topk_threshold_state, dtype=torch.int64, device=plan.numbers.device)
    given = [plan.numbers, state, numbers(tiles, dtype=torch.int32), numbers(max(plan.samples, 1), dtype=torch.int32),
             numbers(ranks, plan.capacity), numbers(ranks, 2, tiles), numbers(ranks, tiles),
             numbers(ranks, -(-tiles // BATCH_TILES))]
    module.topk_threshold(device, stream, blocks, *[t.data_ptr() for t in given], tiles, plan.samples, ranks,
                          plan.direct, drop)
    return state[:2]
