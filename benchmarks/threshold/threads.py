"""What a second thread is worth to the C++ kernel: `python -m benchmarks.threshold.threads`, with two cores free.

Wall time, which is what threads buy; outputs made fresh; medians, one and two threads in turns.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable

import torch

from optprune_fast.bench.machine import commit, on_threads
from optprune_fast.bench.table import markdown
from optprune_fast.ops.topk_threshold import topk_threshold

SIZES = (1_000_448, 2_000_128, 3_000_000, 4_000_000, 10_000_000)
THREADS, TURNS, CALLS = (1, 2), 2, 21


def median_ms(call: Callable[[], object]) -> float:
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    rows = []
    for n in SIZES:
        weight = torch.randn(n // 64, 64, generator=torch.Generator().manual_seed(0))
        call = functools.partial(topk_threshold, [weight], n // 10, backend="native")
        best = dict.fromkeys(THREADS, float("inf"))
        for threads in THREADS * TURNS:
            with on_threads(threads):
                best[threads] = min(best[threads], median_ms(call))
        rows.append([f"{weight.numel():,}", *(f"{best[threads]:.2f}" for threads in THREADS),
                     f"{best[1] / best[2]:.2f}x"])
    print(markdown(["weights", "one thread, ms", "two", ""], rows))
    print(f"\ncommit {commit()}")


if __name__ == "__main__":
    main()
