"""moved_linear in Triton: the moved sums with an activation, or the loss that they or the next layer end in; and the
lists of what moves change."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from optprune_fast.ops.cuda_support import (
    NARROW_LIMIT,
    declines_device,
    declines_dtype,
    needs_wide_offsets,
    with_unit_steps,
)
from optprune_fast.ops.moved_linear.terms import Entries, Next, Terms
from optprune_fast.ops.precision import PRECISIONS
from optprune_fast.ops.triton_support import (
    NARROW,
    OLDEST_CAPABILITY,
    PLAIN,
    Epilogue,
    compile_options,
    device_of,
    triton_type,
)
from optprune_fast.runtime import triton


class Tile(NamedTuple):
    """Samples × outputs of a program of four warps."""

    tile_b: int
    tile_o: int


# None spills on sm_80 and sm_90 (tests/gpu/test_moved_linear_aot.py); none has been timed on a GPU.
SUMS = Tile(64, 32)
LOSSES = {rows: Tile(1024 // rows, rows) for rows in (16, 32, 64, 128)}
NEXT = {16: Tile(64, 16), 32: Tile(64, 32), 64: Tile(32, 64), 128: Tile(16, 128)}
INPUTS = 512
# All registers that a thread can have: a loop in a loop needs many, and left alone the assembler spills some.
COMPILED = compile_options(warps=4, registers=255)
# Moves that a program takes one after the other, so that it reads the parent's sums once for them; fewer where there
# would not be enough programs to go round on a large GPU.
MOST_TOGETHER, ENOUGH_PROGRAMS = 8, 2048


def missing() -> str | None:
    return triton.missing()


def declines(sums: Tensor, *rest: object) -> str | None:
    able = declines_dtype(sums, torch.float32)
    return able if triton.interpreted() else able or declines_device(sums, OLDEST_CAPABILITY)


def run(sums: Tensor, columns: Tensor, *lists: Tensor) -> Tensor:
    return fused(sums, columns, Terms(*lists))


def fused(sums: Tensor, columns: Tensor, terms: Terms, epilogue: Epilogue = PLAIN, dtype: torch.dtype | None = None
          ) -> Tensor:
    """[M, B, O]: moved sums, activated as the epilogue says, whose bias they have already; stored in `dtype`, else in
    that of the sums. `columns` may have 16 bits."""
    out = sums.new_empty(terms.moves, *sums.shape, dtype=dtype)
    if out.numel():
        launch(sums, columns, terms, out, epilogue, wide=sums.numel() > NARROW_LIMIT)
    return out


def launch(sums: Tensor, columns: Tensor, terms: Terms, out: Tensor, epilogue: Epilogue = PLAIN, *, wide: bool) -> None:
    """Fill `out`, [M, B, O]."""
    from optprune_fast.ops.moved_linear.triton_kernel import moved_linear_kernel

    moves, samples, outputs = out.shape
    tiles = -(-samples // SUMS.tile_b) * -(-outputs // SUMS.tile_o)
    together = _together(moves, tiles)
    with device_of(sums):
        moved_linear_kernel[(tiles * -(-moves // together),)](
            *_lists(sums, columns, terms), out, moves, together, samples, outputs, *epilogue.numbers,
            TILE_B=SUMS.tile_b, TILE_O=SUMS.tile_o, WIDE=wide, ACTIVATION=epilogue.activation,
            **COMPILED)


def losses(sums: Tensor, columns: Tensor, terms: Terms, targets: Tensor, kind: str, *, wide: bool | None = None
           ) -> Tensor:
    """float32 [M, B]: "cross_entropy" or "error" of moved sums that are the logits, at most `MOST_CLASSES`."""
    from optprune_fast.ops.moved_linear.triton_kernel import moved_loss_kernel

    (samples, outputs), moves = sums.shape, terms.moves
    out = sums.new_empty(moves, samples, dtype=torch.float32)
    if out.numel():
        tile = LOSSES[_rows(outputs)]
        tiles = -(-samples // tile.tile_b)
        together = _together(moves, tiles)
        with device_of(sums):
            moved_loss_kernel[(tiles * -(-moves // together),)](
                *_lists(sums, columns, terms), targets, out, moves, together, samples, outputs, TILE_B=tile.tile_b,
                TILE_O=tile.tile_o, WIDE=sums.numel() > NARROW_LIMIT if wide is None else wide, LOSS=kind,
                **COMPILED)
    return out


def next_losses(sums: Tensor, columns: Tensor, terms: Terms, epilogue: Epilogue, last: Next, targets: Tensor, kind: str,
                *, wide: bool | None = None) -> Tensor:
    """float32 [M, B]: the loss of the layer behind the moved one, whose outputs, activated, are not stored."""
    from optprune_fast.ops.moved_linear.triton_kernel import next_loss_kernel

    (samples, width), moves = sums.shape, terms.moves
    out = sums.new_empty(moves, samples, dtype=torch.float32)
    if out.numel():
        weight, words = with_unit_steps(last.weight), with_unit_steps(last.words)
        wide = sums.numel() > NARROW_LIMIT or needs_wide_offsets(weight) if wide is None else wide
        tile = NEXT[_rows(len(weight))]
        tiles = -(-samples // tile.tile_b)
        together = _together(moves, tiles)
        with device_of(sums):
            next_loss_kernel[(tiles * -(-moves // together),)](
                *_lists(sums, columns, terms), weight, words, weight if last.bias is None else last.bias, targets, out,
                moves, together, samples, width, len(weight), weight.stride(0), words.stride(0), words.stride(1),
                *epilogue.numbers, TILE_B=tile.tile_b, TILE_O=tile.tile_o, WIDE=wide, DOT=triton_type(weight.dtype),
                PRECISION=PRECISIONS[last.precision].dot, BIAS=last.bias is not None, ACTIVATION=epilogue.activation,
                LOSS=kind, **COMPILED)
    return out


def moved_inputs(source: Tensor, entries: Entries, x: Tensor, differences: int, epilogue: Epilogue,
                 factors: torch.dtype) -> Tensor:
    """float32 [T, B]: what rows of a layer give under flips of theirs, activated and rounded to `factors`; of the first
    `differences` rows, by how much that changes.

    source:  [O, B], sums of the parent, its bias among them;   x: [I, B], what the layer reads
    """
    from optprune_fast.ops.moved_linear.triton_kernel import moved_inputs_kernel

    out = source.new_empty(len(entries.rows), source.shape[1], dtype=torch.float32)
    if out.numel():
        with device_of(source):
            moved_inputs_kernel[(len(out) * -(-out.shape[1] // INPUTS),)](
                source, *entries, x, out, differences, out.shape[1], *epilogue.numbers, TILE_B=INPUTS,
                DOT=triton_type(factors), ACTIVATION=epilogue.activation, **COMPILED)
    return out


def _rows(classes: int) -> int:
    """Of the tile that holds so many."""
    return max(NARROW, 1 << (classes - 1).bit_length())


def _lists(sums: Tensor, columns: Tensor, terms: Terms) -> tuple[Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in (sums, columns, *terms))


def _together(moves: int, tiles: int) -> int:
    """Moves of a program.

    >>> _together(1024, 80), _together(48, 80), _together(3, 1)
    (8, 1, 1)
    """
    return max(1, min(MOST_TOGETHER, moves * tiles // ENOUGH_PROGRAMS))
