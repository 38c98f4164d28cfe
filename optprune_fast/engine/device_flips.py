"""What moves change in the layer that they flip first and in the one behind it, as lists on the device.

    flips of `first`, by move and row ─▶ units: rows that change      ─▶ changes: by how much
    flips of `end`                    ─▶ the units that they read     ─▶ inputs: what these give after the move

One layer may be both; then what its flips read is the parent's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from optprune_fast.engine.device_steps import BACKEND, MaskedStep
from optprune_fast.ops.moved_linear import operation
from optprune_fast.ops.moved_linear.terms import Entries, Terms


class Flips(NamedTuple):
    """Flipped weights of one layer, by move and row: int64 [K] each, and what each adds to its column's factor."""

    move: Tensor
    row: Tensor
    column: Tensor
    factor: Tensor


class Read(NamedTuple):
    """What flips start from, samples fastest: sums of the rows of a layer [O, B], and what it reads [I, B]."""

    sums: Tensor
    x: Tensor


def flips_of(step: MaskedStep, words: Tensor, moves: Tensor) -> Flips:
    """The flips of moves [M, F] in the layer of a step. words: int64 [1, W], the parent's; a weight that it keeps goes.
    """
    layer = step.layer
    local = moves - layer.first_weight
    at = ((local >= 0) & (local < layer.rows * layer.columns)).nonzero()
    index = local[at[:, 0], at[:, 1]]
    # Moves ascend already, so the order within a move alone changes.
    index = index[(at[:, 0] * layer.rows + index // layer.columns).argsort(stable=True)]
    row, column = index // layer.columns, index % layer.columns
    kept = step.words(words)[0][row, column // 64] >> (column % 64) & 1
    weight = step.weight[row, column].float()
    return Flips(at[:, 0], row, column, torch.where(kept.bool(), -weight, weight))


def terms_of(first: MaskedStep, end: MaskedStep, read: Read, words: Tensor, moves: Tensor) -> Terms:
    """What moves that flip weights of `first`, and perhaps of `end` behind it, add to the sums of `end`.

    read: of `first`
    """
    own, layer = flips_of(end, words, moves), first.layer
    own_starts = _starts(own.move, moves)
    if first is end:
        nothing, inputs = own.row[:0], read.x[own.column].float()
        return Terms(nothing, _starts(nothing, moves), inputs[:0], own.row, own_starts, own.factor, inputs)
    flips = flips_of(first, words, moves)
    units, flipped = torch.unique_consecutive(flips.move * layer.rows + flips.row, return_counts=True)
    ends = flipped.cumsum(0)
    bounds = torch.stack([ends - flipped, ends])  # of the flips of each unit
    read_by_own = own.move * layer.rows + own.column
    place = torch.searchsorted(units, read_by_own).clamp(max=len(units) - 1)
    theirs = torch.where(units[place] == read_by_own, bounds[:, place], 0)  # none, where the unit is as it was
    firsts, lasts = torch.cat([bounds, theirs], 1)
    entries = Entries(torch.cat([units % layer.rows, own.column]), firsts, lasts, flips.column, flips.factor)
    values = operation.implementation(BACKEND).moved_inputs(read.sums, entries, read.x, len(units), first.epilogue,
                                                            end.weight.dtype)
    return Terms(units % layer.rows, _starts(units // layer.rows, moves), values[:len(units)], own.row, own_starts,
                 own.factor, values[len(units):])


def _starts(move: Tensor, moves: Tensor) -> Tensor:
    """int64 [M + 1]: where the entries of each move begin, in an ascending list of their moves."""
    return torch.searchsorted(move, torch.arange(len(moves) + 1, device=move.device))
