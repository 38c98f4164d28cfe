"""What moved_linear means, in float64. Every implementation is judged against this."""

from __future__ import annotations

from torch import Tensor


def moved_linear_reference(sums: Tensor, columns: Tensor, units: Tensor, unit_starts: Tensor, changes: Tensor,
                           rows: Tensor, row_starts: Tensor, factors: Tensor, inputs: Tensor) -> Tensor:
    """One addend after the other, in float64."""
    out = sums.double().repeat(len(unit_starts) - 1, 1, 1)
    for m in range(len(out)):
        for u in range(int(unit_starts[m]), int(unit_starts[m + 1])):
            out[m] += changes[u].double()[:, None] * columns[units[u]].double()
        for t in range(int(row_starts[m]), int(row_starts[m + 1])):
            out[m, :, rows[t]] += factors[t].double() * inputs[t].double()
    return out
