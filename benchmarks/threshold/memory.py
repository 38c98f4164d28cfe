"""Memory that a call needs beyond the weights and the words: the high-water mark of a fresh process."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.threshold.rivals import WAYS
from benchmarks.threshold.task import Case, make
from optprune_fast.bench.machine import on_threads
from optprune_fast.bench.memory import CLEAR, STATUS, high_water, settled


def cases(n: int) -> list[Case]:
    return [Case(n), Case(n, dtype="bfloat16")]


def measure(case: Case, way: str) -> dict[str, Any] | None:
    """Bytes, and their share of those of the weights; None where the system does not tell or the way declines."""
    if not STATUS.exists() or WAYS[way].declines(case) is not None:
        return None
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        extra = fresh.submit(_peak, case, way).result()
    weights = case.size * (4 if case.dtype == "float32" else 2)
    return None if extra is None else {"n": case.size, "dtype": case.dtype, "way": way, "extra_bytes": extra,
                                       "share": extra / weights}


def _peak(case: Case, way: str) -> int | None:
    with on_threads(1):
        few = make(Case(100_000, case.dtype))
        run, _ = WAYS[way].prepare(few, 1000, 0)
        run()  # loads the libraries
        run, _ = WAYS[way].prepare(make(case), case.k, 0)
        before = settled()
        try:
            CLEAR.write_text("5")
        except OSError:
            return None
        run()
        return max(0, high_water() - before)
