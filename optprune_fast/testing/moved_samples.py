"""Samples of moved_linear: no moves and one, moves without a change, with many, and with several in one row."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from optprune_fast.testing.sample import Sample, generator_of


def starts_of(counts: list[int]) -> Tensor:
    """int64 [M + 1]: where the entries of each move begin.

    >>> starts_of([2, 0, 1])
    tensor([0, 2, 2, 3])
    """
    return torch.tensor([0, *counts]).cumsum(0)


def _moved(dtype: torch.dtype, B: int = 5, O: int = 7, I: int = 9, units: tuple[int, ...] = (1, 0, 2),  # noqa: E741
           flips: tuple[int, ...] = (1, 2, 0), name: str = "") -> Sample:
    generator = generator_of(7, B, O, I, *units, *flips)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    U, V = sum(units), sum(flips)
    changed = torch.randint(max(I, 1), (U,), generator=generator)
    rows = torch.randint(max(O, 1), (V,), generator=generator)
    arguments = (normal(B, O), normal(I, O), changed, starts_of(list(units)), normal(U, B), rows,
                 starts_of(list(flips)), normal(V), normal(V, B))
    return Sample(name or f"B{B}-O{O}-I{I}-M{len(units)}", arguments, 1 + max((*units, *flips), default=0))


def moved_linear_samples(dtype: torch.dtype) -> list[Sample]:
    make = functools.partial(_moved, dtype)
    out = [make(), make(units=(1,), flips=(1,))]
    out += [make(B=n) for n in (0, 1, 63, 64, 65, 130)]
    out += [make(O=n) for n in (1, 31, 32, 33, 65)]
    out += [make(I=1), make(units=(), flips=(), name="no-moves"), make(B=0, O=0, I=0, units=(), flips=(), name="empty")]
    out += [make(units=(0, 0), flips=(0, 0), name="nothing-changes"), make(units=(0, 3), flips=(4, 0), name="one-kind"),
            make(units=(40, 1), flips=(0, 50), name="many"), make(units=(1,) * 20, flips=(0, 1) * 10, name="M20")]
    arguments = list(out[0].arguments)
    arguments[5] = torch.full_like(arguments[5], 3)
    out.append(Sample("one-row", tuple(arguments), 3))
    sums, columns, *rest = out[0].arguments
    out.append(Sample("turned", (sums.T.contiguous().T, columns.T.contiguous().T, *rest), 3))
    return out
