"""Keep the k largest weights: the cases, and whether a mask is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class WrongMask(Exception):
    """A way that gives another mask is not timed."""


@dataclass(frozen=True)
class Case:
    """n weights in all, in rows of `columns`; values: "normal", or "half pruned": half of them, at random, are zero."""

    n: int
    dtype: str = "float32"
    columns: int = 1024
    tensors: int = 1
    values: str = "normal"
    keep: float = 0.1
    pool: float = 0.0

    @property
    def k(self) -> int:
        return int(self.keep * self.size)

    @property
    def size(self) -> int:
        """Weights that there are: n rounded to whole rows."""
        return sum(rows for rows in self.rows) * self.columns

    @property
    def rows(self) -> list[int]:
        """Of each tensor; many are of sizes from 1 to 4,000 parts, as in a network."""
        rows = max(self.tensors, round(self.n / self.columns))
        if self.tensors == 1:
            return [rows]
        parts = np.logspace(0, 3.6, self.tensors)
        sizes = np.maximum(1, (parts / parts.sum() * rows).astype(int))
        return [int(size) for size in np.random.default_rng(0).permutation(sizes)]


def make(case: Case) -> list[Tensor]:
    """The tensors of a case, normal with a deviation of 0.02."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for rows in case.rows:
        weight = torch.empty(rows, case.columns).normal_(0, 0.02, generator=generator)
        if case.values == "half pruned":
            weight.mul_(torch.empty_like(weight).bernoulli_(0.5, generator=generator))
        made.append(weight.to(DTYPES[case.dtype]))
    return made


def threshold_of(tensors: list[Tensor], k: int) -> float:
    magnitudes = np.concatenate([t.abs().float().flatten().numpy() for t in tensors])
    magnitudes.partition(len(magnitudes) - k)
    return float(magnitudes[len(magnitudes) - k])


def check(tensors: list[Tensor], masks: list[Tensor], k: int, threshold: float, exact: bool) -> None:
    """Raise `WrongMask` unless all above the threshold are kept and none below it; exact: and k of them."""
    kept = 0
    for weight, mask in zip(tensors, masks, strict=True):
        magnitudes = weight.abs().float()
        if bool((mask & (magnitudes < threshold)).any()) or bool((~mask & (magnitudes > threshold)).any()):
            raise WrongMask("not the largest weights")
        kept += int(mask.sum())
    if kept < k or (exact and kept > k):
        raise WrongMask(f"{kept} weights kept, not {k}")


def unpacked(words: Tensor, columns: int) -> Tensor:
    """bool [O, columns] from words, without the eight bytes a weight that a general way takes."""
    bits = np.unpackbits(words.numpy().view(np.uint8), axis=1, bitorder="little", count=columns)
    return torch.from_numpy(bits).bool()
