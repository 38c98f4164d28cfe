"""What rows_linear means, in float64. Every implementation is judged against this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from optprune_fast.ops.rows import TILE, Rows


def rows_linear_reference(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor,
                          starts: Tensor, bias: Tensor | None = None) -> Tensor:
    """out[b, o] = bias[o] + sum over kept i of x[b, i] * weight[o, i], in float64."""
    weight = torch.zeros(*shape, dtype=torch.float64, device=x.device)
    for row in range(shape[0]):
        columns = list(_columns(Rows(values, places, counts, starts), row, shape[1]))
        weight[row, columns] = values[int(starts[row]) : int(starts[row + 1])].double()
    out = x.double() @ weight.T
    return out if bias is None else out + bias.double()


def _columns(rows: Rows, row: int, inputs: int) -> Iterator[int]:
    """The columns that a row keeps, ascending."""
    if rows.coded:
        words = rows.places[row].tolist()
        yield from (i for i in range(inputs) if words[i // 64] >> i % 64 & 1)
        return
    at, tiles = int(rows.starts[row]), -(-inputs // TILE)
    for tile, count in enumerate(rows.counts[row * tiles : (row + 1) * tiles].tolist()):
        yield from (TILE * tile + column for column in rows.places[at : at + count].tolist())
        at += count
