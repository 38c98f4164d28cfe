"""The weights of a whole network as its kernels hold them: batch normalisation folded in, compressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optprune_fast.deploy.report import Row
from optprune_fast.deploy.weight import smaller_coded
from optprune_fast.ops.native_support import planes_in_place
from optprune_fast.ops.slices import Slices, to_slices
from optprune_fast.ops.words import pack
from optprune_fast.plan.built import DENSE_FROM, address
from optprune_fast.plan.fold import folded
from optprune_fast.plan.graph import Node

Consumers = Sequence[tuple[int, int]]  # (layer, its columns per row)


@dataclass
class HeldWeight:
    """The matrix of one layer.

    held:   slices of what is kept, or the dense matrix, float32
    counts: int32 [rows], kept weights of each row; None where dense
    live:   int32: rows that somebody reads; None: all
    row:    for the report
    """

    held: Slices | Tensor
    counts: Tensor | None
    live: Tensor | None
    row: Row

    @property
    def nbytes(self) -> int:
        return self.row.nbytes

    def give(self, network: Any) -> None:
        """Tell the compiled module where the weight is."""
        rows, columns = self.row.shape[0], torch.Size(self.row.shape[1:]).numel()
        live = (address(self.live), rows if self.live is None else len(self.live))
        if isinstance(self.held, Tensor):
            network.add_dense(address(self.held), *live, self.held.numel())
            return
        _, addresses = planes_in_place(*self.held)
        network.add_sparse(*addresses, rows, columns, address(self.counts), *live, self.held.values.numel())


def hold(nodes: Sequence[Node], state: dict[str, Tensor], consumers: Sequence[Consumers]) -> list[HeldWeight]:
    """The weights of linear layers and convolutions, in order; one at a time is dense. Rows that no kept weight reads
    are left out."""
    used: dict[int, Tensor] = {}  # layer -> bool [columns]: what its live rows keep
    out: list[HeldWeight] = []
    for index in reversed(range(len(nodes))):
        matrix, _ = folded(nodes[index], state)
        kept = matrix != 0
        live = torch.ones(len(matrix), dtype=torch.bool)
        if consumers[index]:
            live.zero_()
            for layer, columns in consumers[index]:
                live |= used[layer].view(len(matrix), columns).any(1)
        kept[~live] = False
        dense = float(kept.sum()) >= DENSE_FROM[nodes[index].op] * max(1, matrix[live].numel())
        # A dense layer multiplies zeros with what it reads, which must thus be there.
        used[index] = torch.ones(matrix.shape[1], dtype=torch.bool) if dense else kept.any(0)
        out.append(_held(nodes[index].tensors["weight"], state, matrix, kept, live, dense))
    return out[::-1]


def _held(name: str, state: dict[str, Tensor], matrix: Tensor, kept: Tensor, live: Tensor, dense: bool) -> HeldWeight:
    rows, columns = matrix.shape
    count = int(kept.sum())
    held: Slices | Tensor = matrix
    counts = None
    if not dense:
        held = to_slices(pack(kept), matrix[kept], columns, coded=smaller_coded(rows, columns, count))
        counts = kept.sum(1, dtype=torch.int32)
    numbers = None if live.all() else live.nonzero().flatten().to(torch.int32)
    tensors = [*([matrix] if counts is None else [*held, counts]), *([] if numbers is None else [numbers])]
    how = "dense" if counts is None else "bitmask" if isinstance(held, Slices) and held.coded else "index"
    why = "keeps three weights in four or more" if dense else "smallest"
    row = Row(name, tuple(state[name].shape), count / max(1, matrix.numel()), how,
              sum(tensor.nbytes for tensor in tensors), matrix.nbytes, why)
    return HeldWeight(held, counts, numbers, row)
