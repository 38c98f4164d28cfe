from __future__ import annotations

from torch import Tensor

from benchmarks.threshold.rivals import ours
from benchmarks.threshold.task import Case

NAME, EXACT = "native", True


def declines(case: Case) -> str | None:
    return None


def prepare(tensors: list[Tensor], k: int, pool: int) -> ours.Way:
    return ours.prepare("native", tensors, k, pool)
