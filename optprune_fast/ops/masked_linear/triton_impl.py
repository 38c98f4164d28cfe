"""masked_linear in Triton: masks applied in registers; tensor cores for float16 and bfloat16, true float32 products."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optprune_fast.ops.cuda_support import declines_device, declines_dtype, needs_wide_offsets, with_unit_steps
from optprune_fast.runtime import triton


class Launch(NamedTuple):
    """How the kernel is launched: a tile of samples × outputs per program."""

    tile_b: int
    tile_o: int
    warps: int
    stages: int


# None of these spills on sm_80 and sm_90, for aligned and ragged rows, with 32- and 64-bit offsets, under Triton 3.6 to
# 3.9 (tests/gpu/test_triton_aot.py). More than 8 float32 sums a thread spill 8 to 700 bytes in some of those cases.
LAUNCHES = {
    torch.float32: Launch(tile_b=64, tile_o=32, warps=8, stages=2),
    torch.float16: Launch(tile_b=128, tile_o=64, warps=8, stages=3),
    torch.bfloat16: Launch(tile_b=128, tile_o=64, warps=8, stages=3),
}
OLDEST_CAPABILITY = (8, 0)
# CUDA's limit of the first axis of a grid.
MOST_PROGRAMS = 2**31 - 1


def missing() -> str | None:
    return triton.missing()


def declines(x: Tensor, weight: Tensor, words: Tensor) -> str | None:
    if triton.interpreted():
        if x.dtype == torch.bfloat16:
            return "Triton's interpreter computes bfloat16 wrongly"
        return declines_dtype(x, *LAUNCHES)
    return declines_dtype(x, *LAUNCHES) or declines_device(x, OLDEST_CAPABILITY)


def run(x: Tensor, weight: Tensor, words: Tensor) -> Tensor:
    out = x.new_empty(words.shape[0], x.shape[-2], weight.shape[0])
    if out.numel():
        x, weight, words = with_unit_steps(x), with_unit_steps(weight), with_unit_steps(words)
        launch(x, weight, words, out, wide=needs_wide_offsets(x, weight, words, out))
    return out


def launch(x: Tensor, weight: Tensor, words: Tensor, out: Tensor, *, wide: bool, most_programs: int = MOST_PROGRAMS
           ) -> None:
    """Fill `out` with as many launches as the limit of a grid asks for: one, outside of tests and huge populations."""
    from optprune_fast.ops.masked_linear.triton_kernel import masked_linear_kernel

    config = LAUNCHES[x.dtype]
    candidates, samples, outputs = out.shape
    tiles = -(-samples // config.tile_b) * -(-outputs // config.tile_o)
    chunk = max(1, most_programs // tiles)
    with torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext():
        for first in range(0, candidates, chunk):
            part = slice(first, first + chunk)
            x_part, words_part, out_part = x if x.dim() == 2 else x[part], words[part], out[part]
            masked_linear_kernel[(out_part.shape[0] * tiles,)](
                x_part, weight, words_part, out_part, samples, outputs, weight.shape[1],
                x.stride(0) if x.dim() == 3 else 0, x.stride(-2), weight.stride(0), words.stride(0), words.stride(1),
                TILE_B=config.tile_b, TILE_O=config.tile_o, WIDE=wide, **compile_options(config))


def compile_options(config: Launch) -> dict[str, Any]:
    # enable_fp_fusion is said because its default is about to change in Triton 3.10.
    return {"num_warps": config.warps, "num_stages": config.stages, "enable_fp_fusion": True}
