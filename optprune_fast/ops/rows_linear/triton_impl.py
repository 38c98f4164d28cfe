"""rows_linear in Triton: kernels for few samples, which are about bytes read, and one for many, about products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from optprune_fast.ops.cuda_support import needs_wide_offsets, with_unit_steps
from optprune_fast.ops.rows import TILE
from optprune_fast.ops.triton_support import compile_options, declines_floats, device_of
from optprune_fast.ops.words import word_count
from optprune_fast.runtime import triton


class Many(NamedTuple):
    """How `many_kernel` is launched: a tile of samples × outputs per program."""

    tile_b: int
    tile_o: int
    warps: int
    stages: int


class Few(NamedTuple):
    """How `few_by_columns_kernel` is launched: rows of a program, and the tiles and kept weights of a step."""

    rows: int
    tiles: int
    entries: int


# Samples up to which the kernels for few serve. By words each position costs instructions, whether it is kept or not,
# and products on tensor cores are free beside them; by columns only what is kept does.
FEW_BY_WORDS, FEW_BY_COLUMNS = 1, 16
FEW_ROWS, FEW_WARPS = 8, 4
_FEW_SUMS = 16 * 32 * FEW_WARPS  # 16 a thread
# The first that holds all samples, else the last. None spills on sm_80 and sm_90 (tests/gpu/test_rows_linear_aot.py).
MANY = {
    torch.float32: (Many(16, 64, 4, 2), Many(32, 32, 4, 2)),
    torch.float16: (Many(16, 64, 4, 3), Many(64, 64, 4, 3), Many(128, 64, 8, 3)),
    torch.bfloat16: (Many(16, 64, 4, 3), Many(64, 64, 4, 3), Many(128, 64, 8, 3)),
}


def missing() -> str | None:
    return triton.missing()


def declines(x: Tensor, *rest: object) -> str | None:
    return declines_floats(x)


def run(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, starts: Tensor,
        bias: Tensor | None = None) -> Tensor:
    out = x.new_empty(*x.shape[:-1], shape[0])
    if out.numel():
        values, places, counts, starts = (plane.contiguous() for plane in (values, places, counts, starts))
        bias = None if bias is None else bias.contiguous()
        samples = out.numel() // shape[0]
        flat = with_unit_steps(x.reshape(samples, shape[1]))
        wide = needs_wide_offsets(flat, values, places.view(torch.uint8), counts, out)  # words are read byte by byte
        launch(flat, values, places, counts, starts, bias, out.view(samples, shape[0]), wide=wide)
    return out


def launch(x: Tensor, values: Tensor, places: Tensor, counts: Tensor, starts: Tensor, bias: Tensor | None, out: Tensor,
           *, wide: bool) -> None:
    """Fill `out` [B, O] by the kernel for so many samples; neither B nor O is 0, and all but x is contiguous."""
    listed, samples = places.dtype == torch.uint8, out.shape[0]
    with device_of(x):
        if samples > (FEW_BY_COLUMNS if listed else FEW_BY_WORDS):
            many(x, values, places, counts, starts, bias, out, wide=wide)
        elif listed:
            few_by_columns(x, values, places, counts, starts, bias, out, wide=wide)
        else:
            one_by_words(x, values, places, starts, bias, out, wide=wide)


def one_by_words(x: Tensor, values: Tensor, words: Tensor, starts: Tensor, bias: Tensor | None, out: Tensor, *,
                 wide: bool) -> None:
    from optprune_fast.ops.rows_linear.triton_few import one_by_words_kernel

    outputs, inputs = out.shape[1], x.shape[1]
    one_by_words_kernel[(-(-outputs // FEW_ROWS),)](
        x, values, words.view(torch.uint8), starts, bias, out, outputs, inputs, 8 * word_count(inputs), ROWS=FEW_ROWS,
        WIDE=wide, **compile_options(FEW_WARPS))


def few_by_columns(x: Tensor, values: Tensor, columns: Tensor, counts: Tensor, starts: Tensor, bias: Tensor | None,
                   out: Tensor, *, wide: bool) -> None:
    from optprune_fast.ops.rows_linear.triton_few import few_by_columns_kernel

    (samples, outputs), tiles = out.shape, -(-x.shape[1] // TILE)
    together = 1 << (samples - 1).bit_length()
    turned = x if samples == 1 else torch.nn.functional.pad(x, (0, 0, 0, together - samples)).T.contiguous()
    config = few_for(values.numel(), outputs * tiles, together)
    few_by_columns_kernel[(-(-outputs // config.rows),)](
        turned, values, columns, counts, starts, bias, out, outputs, samples, tiles, ROWS=config.rows,
        TILES=config.tiles, ENTRIES=config.entries, SAMPLES=together, WIDE=wide, **compile_options(FEW_WARPS))


def many(x: Tensor, values: Tensor, places: Tensor, counts: Tensor, starts: Tensor, bias: Tensor | None, out: Tensor, *,
         wide: bool) -> None:
    from optprune_fast.ops.rows_linear.triton_many import many_kernel

    (samples, outputs), inputs, listed = out.shape, x.shape[1], places.dtype == torch.uint8
    config = next((c for c in MANY[x.dtype] if samples <= c.tile_b), MANY[x.dtype][-1])
    programs = -(-samples // config.tile_b) * -(-outputs // config.tile_o)
    many_kernel[(programs,)](
        x, values, places if listed else places.view(torch.int32), counts, starts, bias, out, samples, outputs, inputs,
        x.stride(0), -(-inputs // TILE) if listed else 2 * word_count(inputs), TILE_B=config.tile_b,
        TILE_O=config.tile_o, LISTED=listed, WIDE=wide, **compile_options(config.warps, config.stages))


def few_for(kept: int, tiles: int, samples: int) -> Few:
    """The step for a weight of `kept` values in `tiles` tiles of rows: about the mean of a tile, so that few threads
    idle and few steps repeat, and no more sums than registers hold.

    >>> few_for(13 * 100, 100, 1), few_for(5 * 100, 100, 4), few_for(200 * 100, 100, 16)
    (Few(rows=8, tiles=8, entries=16), Few(rows=8, tiles=8, entries=8), Few(rows=1, tiles=4, entries=32))
    """
    entries = 8 if kept <= 6 * tiles else 16 if kept <= 16 * tiles else 32
    rows, across = FEW_ROWS, 8
    while rows * across * entries * samples > _FEW_SUMS:
        rows, across = (rows // 2, across) if rows > 1 else (rows, across // 2)
    return Few(rows, across, entries)
