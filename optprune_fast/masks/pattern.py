"""N:M patterns: at most N of every M neighbouring weights of a row are kept, as sparse tensor cores want it.

    row    [ M | M | … | M | rest ]      each group keeps its N largest; a rest of r weights keeps ⌈N · r / M⌉
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from optprune_fast.ops.topk_threshold.keys import keys32, keys64
from optprune_fast.runtime.errors import message


def parse_pattern(scope: str) -> tuple[int, int]:
    """`"2:4"` -> (2, 4); `ValueError` for anything that is not 1 <= N <= M.

    >>> parse_pattern("2:4")
    (2, 4)
    """
    found = re.fullmatch(r"([0-9]{1,6}):([0-9]{1,6})", scope)
    kept, group = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= kept <= group:
        raise ValueError(message("magnitude", 'an N:M scope must be two whole numbers, 1 <= N <= M, as in "2:4"',
                                 scope=scope))
    return kept, group


def keep_pattern(weight: Tensor, kept: int, group: int) -> Tensor:
    """Mark the `kept` largest of every `group` neighbours in a row, by magnitude; equal ones lowest position first.

    weight:   float [O, ...], rows as in a mask: [O, I]
    returns:  bool [O, I]

    >>> keep_pattern(torch.tensor([[1.0, -3.0, 2.0, 0.0, 1.0, 1.0]]), 2, 4).int()
    tensor([[0, 1, 1, 0, 1, 0]], dtype=torch.int32)
    """
    rows = weight.detach().reshape(1, -1) if weight.dim() < 2 else weight.detach().flatten(1)
    keys = keys64(rows) if rows.dtype == torch.float64 else keys32(rows)
    whole = rows.shape[1] // group * group
    rest = rows.shape[1] - whole
    groups = _largest(keys[:, :whole].unflatten(1, (-1, group)), kept).flatten(1) if whole else keys[:, :0].bool()
    if not rest:
        return groups
    return torch.cat([groups, _largest(keys[:, whole:], -(-kept * rest // group))], dim=1)


def _largest(keys: Tensor, kept: int) -> Tensor:
    """Mark the `kept` largest along the last dimension: those that fewer than `kept` others come before.

    Groups are short, so counting who comes before is quicker than sorting them.
    """
    columns = [keys[..., i] for i in range(keys.shape[-1])]
    before = [torch.zeros_like(column, dtype=torch.int16) for column in columns]
    for j in range(1, len(columns)):
        for i in range(j):
            first = columns[i] >= columns[j]
            before[j] += first
            before[i] += ~first
    return torch.stack([places < kept for places in before], dim=-1)
