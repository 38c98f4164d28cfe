"""topk_threshold in Triton: one pass over the weights between two bounds that a sample gives, on a CUDA device.

    sample ──▶ bracket ──▶ pass ──▶ key ──▶ (pass anew) ──▶ patch
               2 keys      words, list      where the key was not inside the bracket

Nothing waits for the device before the threshold is read at the end: what depends on values is decided there. A rank
whose key the bracket missed is found by histograms over all weights, and the words are written again; otherwise those
launches find nothing to do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optprune_fast.ops.topk_threshold.device_plan import BATCH_TILES, Plan, declines_tensors, run_planned
from optprune_fast.ops.triton_support import OLDEST_CAPABILITY, device_of
from optprune_fast.runtime import triton

TILE_WORDS = 64
# Warps of a program that takes a tile, 16 weights a thread, and of the others; registers of a thread that marks tiles.
# None of the kernels spills then under Triton 3.6 to 3.8, and two programs fit on a multiprocessor
# (tests/gpu/test_topk_threshold_aot.py). Without a pool 80 registers let three fit, and spill 8 bytes under 3.8.
TILE_WARPS, WARPS = 8, 4
MARK_REGISTERS = 128
# Programs for each multiprocessor, of those that share tiles or keys between them.
PROGRAMS = 4
SAMPLE_BLOCK, LIST_BLOCK = 512, 2048


def missing() -> str | None:
    return triton.missing()


def declines(tensors: list[Tensor], *others: object) -> str | None:
    return declines_tensors(tensors, None if triton.interpreted() else OLDEST_CAPABILITY)


def run(tensors: list[Tensor], k: int, pool: int, words: list[Tensor], pool_words: list[Tensor] | None,
        hint: float | None, nan: str) -> tuple[float, int]:
    """A sample costs less here than what a hint could spare, so the hint is not looked at."""
    with device_of(tensors[0]):
        return run_planned(lambda plan: launch(plan, drop=nan == "drop"), TILE_WORDS, tensors, k, pool, words,
                           pool_words, nan)


def launch(plan: Plan, *, drop: bool, programs: int | None = None) -> Tensor:
    """Enqueue everything, and wait for nothing.

    programs:  that share the tiles, or the keys of a list
    returns:   int64 [2] on the device: the key of rank k; how many tensors there are from the first with NaN on, or 0
    """
    from optprune_fast.ops.topk_threshold import triton_keys, triton_mark, triton_patch, triton_sample, triton_select

    def numbers(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    ranks, tiles, told, device = plan.ranks, plan.tiles, plan.numbers, plan.numbers.device
    if programs is None:
        programs = PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count if told.is_cuda else 1
    batches = -(-tiles // BATCH_TILES)
    state = torch.zeros(triton_keys.STATE, dtype=torch.int64, device=device)
    owners, sample = numbers(tiles, dtype=torch.int32), numbers(max(plan.samples, 1), dtype=torch.int32)
    arena = numbers(ranks, plan.capacity, 2, dtype=torch.int32)
    segments, ties, sums = numbers(ranks, 2, tiles), numbers(ranks, tiles), numbers(ranks, batches)
    shared = min(programs, tiles)

    def run(kernel: Any, grid: tuple[int, ...], *arguments: Tensor, **constants: int) -> None:
        kernel[grid](*arguments, **constants, **options(kernel.__name__))

    run(triton_sample.sample_kernel, (-(-max(tiles, plan.samples) // SAMPLE_BLOCK),), told, owners, sample, DROP=drop,
        BLOCK=SAMPLE_BLOCK)
    if not plan.direct:
        grid = min(programs, -(-plan.samples // LIST_BLOCK)), 2 * ranks
        for step in range(triton_keys.DIGITS.value):
            run(triton_select.sample_digit_kernel, grid, told, state, sample, STEP=step, BLOCK=LIST_BLOCK)
        run(triton_select.bracket_kernel, (1,), told, state, RANKS=ranks)
        run(triton_mark.mark_kernel, (shared,), told, state, owners, arena, segments, RANKS=ranks, AGAIN=False,
            DROP=drop)
    for step in range(triton_keys.DIGITS.value):
        run(triton_select.exact_digit_kernel, (programs, ranks), told, state, arena, owners, STEP=step, DROP=drop,
            BLOCK=LIST_BLOCK)
    run(triton_select.key_kernel, (1,), told, state, RANKS=ranks)
    run(triton_mark.mark_kernel, (shared,), told, state, owners, arena, segments, RANKS=ranks, AGAIN=True, DROP=drop)
    run(triton_patch.count_kernel, (batches,), told, state, arena, segments, ties, sums, RANKS=ranks)
    for j in range(ranks):
        run(triton_patch.patch_kernel, (batches,), told, state, owners, arena, segments, ties, sums, FIRST=j == 0,
            POOL=ranks == 2)
    return state[triton_keys.RESULT.value : triton_keys.RESULT.value + 2]


def options(kernel: str) -> dict[str, Any]:
    """How a kernel is compiled."""
    tiled = kernel in ("mark_kernel", "exact_digit_kernel")
    # enable_fp_fusion is said because its default is about to change in Triton 3.10; there is nothing to fuse here.
    return {"num_warps": TILE_WARPS if tiled else WARPS, "num_stages": 1, "enable_fp_fusion": True,
            "maxnreg": MARK_REGISTERS if kernel == "mark_kernel" else None}
