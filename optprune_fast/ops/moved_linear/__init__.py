"""moved_linear: the sums of one linear layer after each of many moves, from those of the parent."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.ops.checks import require
from optprune_fast.runtime.dispatch import Operation
from optprune_fast.runtime.errors import message

operation = Operation("moved_linear", __name__, ("triton", "torch"))


def moved_linear(sums: Tensor, columns: Tensor, units: Tensor, unit_starts: Tensor, changes: Tensor, rows: Tensor,
                 row_starts: Tensor, factors: Tensor, inputs: Tensor, *, backend: str = "auto") -> Tensor:
    """Add to the parent's sums what each of `M` moves changes, by changed inputs and by flipped weights.

        out[m] = sums  +  changes[u] ⊗ columns[units[u]], for its units   +   factors[t] · inputs[t] in row rows[t]

    sums:         float [B, O], the parent's
    columns:      float [I, O], the weight under the parent's mask, turned
    units:        int64 [U], inputs that moves change, those of a move behind one another;   changes: float [U, B]
    unit_starts:  int64 [M + 1], where those of each move begin, and the end
    rows:         int64 [V], rows with a flipped weight, one entry a flip;   row_starts: int64 [M + 1], as above
    factors:      float [V], the flipped weight, negative where it goes
    inputs:       float [V, B], what the flipped weight reads, as it is after the move
    returns:      float [M, B, O]

    One floating dtype. What units, rows and starts hold is taken for granted: to look at them waits for a GPU.

    Raises `TypeError` for wrong dtypes, `ValueError` for wrong shapes or devices, `BackendError` if the backend asked
    for cannot serve the call.

    >>> sums, columns = torch.zeros(1, 2), torch.tensor([[1.0, 2.0]])  # one sample, one input, two outputs
    >>> unit = torch.tensor([0]), torch.tensor([0, 1, 1]), torch.tensor([[10.0]])  # the first of two moves changes it
    >>> flip = torch.tensor([1]), torch.tensor([0, 0, 1]), torch.tensor([-2.0]), torch.tensor([[3.0]])  # the second
    >>> moved_linear(sums, columns, *unit, *flip, backend="torch")
    tensor([[[10., 20.]],
    <BLANKLINE>
            [[ 0., -6.]]])
    """
    check(sums, columns, units, unit_starts, changes, rows, row_starts, factors, inputs)
    out: Tensor = operation(sums, columns, units, unit_starts, changes, rows, row_starts, factors, inputs,
                            backend=backend)
    return out


def check(sums: Tensor, columns: Tensor, units: Tensor, unit_starts: Tensor, changes: Tensor, rows: Tensor,
          row_starts: Tensor, factors: Tensor, inputs: Tensor) -> None:
    where = "moved_linear"
    floats = {"sums": sums, "columns": columns, "changes": changes, "factors": factors, "inputs": inputs}
    whole = {"units": units, "unit_starts": unit_starts, "rows": rows, "row_starts": row_starts}
    seen = {**floats, **whole}
    if not sums.dtype.is_floating_point or any(t.dtype != sums.dtype for t in floats.values()):
        raise TypeError(message(where, "sums, columns, changes, factors and inputs must have one floating dtype",
                                **seen))
    if any(t.dtype != torch.int64 for t in whole.values()):
        raise TypeError(message(where, "units, rows and their starts must be int64", **seen))
    require(all(t.device == sums.device for t in seen.values()), where, "all tensors must be on one device",
            "move them with .to(device)", **seen)
    require(sums.dim() == columns.dim() == 2 and columns.shape[1] == sums.shape[1], where,
            "sums must be [B, O] and columns [I, O]", sums=sums, columns=columns)
    require(units.dim() == 1 and changes.shape == (len(units), len(sums)), where,
            "units must be [U] and changes [U, B]", units=units, changes=changes, sums=sums)
    require(rows.dim() == 1 and factors.shape == rows.shape and inputs.shape == (len(rows), len(sums)), where,
            "rows and factors must be [V] and inputs [V, B]", rows=rows, factors=factors, inputs=inputs, sums=sums)
    require(unit_starts.dim() == 1 and len(unit_starts) > 0 and row_starts.shape == unit_starts.shape, where,
            "unit_starts and row_starts must be [M + 1]", unit_starts=unit_starts, row_starts=row_starts)
