"""The weights of a whole network as its kernels hold them: batch normalisation folded in, compressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optprune_fast.deploy.report import Row
from optprune_fast.deploy.weight import smaller_coded
from optprune_fast.ops.native_support import planes_in_place
from optprune_fast.ops.slices import Slices, to_slices
from optprune_fast.ops.words import pack
from optprune_fast.plan.built import DENSE_FROM
from optprune_fast.plan.fold import folded
from optprune_fast.plan.graph import Node

Consumers = Sequence[tuple[int, int]]  # (layer, its columns per row)


@dataclass
class HeldWeight:
    """The matrix of one layer.

    held:   slices of what is kept, or the dense matrix, float32
    start:  int64 [rows + 1], kept weights of all rows before; None where dense
    live:   int32: rows that somebody reads
    row:    for the report
    """

    held: Slices | Tensor
    start: Tensor | None
    live: Tensor
    row: Row

    @property
    def nbytes(self) -> int:
        return self.row.nbytes

    def give(self, network: object) -> None:
        """Tell the compiled module where the weight is."""
        live = (self.live.data_ptr(), len(self.live))
        if isinstance(self.held, Tensor):
            network.add_dense(self.held.data_ptr(), *live)  # type: ignore[attr-defined]
            return
        assert self.start is not None
        _, addresses = planes_in_place(*self.held)
        rows, columns = self.row.shape[0], torch.Size(self.row.shape[1:]).numel()
        network.add_sparse(*addresses, rows, columns, self.start.data_ptr(), *live)  # type: ignore[attr-defined]


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
    start = None
    if not dense:
        held = to_slices(pack(kept), matrix[kept], columns, coded=smaller_coded(rows, columns, count))
        start = torch.cat([torch.zeros(1, dtype=torch.int64), kept.sum(1).cumsum(0)])
    numbers = live.nonzero().flatten().to(torch.int32)
    tensors = [numbers, *([matrix] if start is None else [*held, start])]
    how = "dense" if start is None else "bitmask" if isinstance(held, Slices) and held.coded else "index"
    why = "keeps three weights in four or more" if dense else "smallest"
    row = Row(name, tuple(state[name].shape), count / max(1, matrix.numel()), how,
              sum(tensor.nbytes for tensor in tensors), matrix.nbytes, why)
    return HeldWeight(held, start, numbers, row)
