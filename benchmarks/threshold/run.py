"""Exact top-k masks: ours, NumPy and torch, each beside a plain read of the same weights: JSON, and a Markdown table.

    python -m benchmarks.threshold.run [--sizes 10000 100000000] [--rounds 15] [--quick]

One thread. A call is timed by the processor time of the process and stands between two reads; ratios are medians of
such pairs. Every mask is checked before it is timed. What a call writes is there before it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.threshold.dispatch import force_fast_partition

NUMPY_DISPATCH = force_fast_partition()

from benchmarks.store import ASIDE, write  # noqa: E402
from benchmarks.threshold import floor, memory  # noqa: E402
from benchmarks.threshold.cases import LARGE, SIZES, SMALL, cases  # noqa: E402
from benchmarks.threshold.rivals import WAYS  # noqa: E402
from benchmarks.threshold.table import HEADER, cells  # noqa: E402
from benchmarks.threshold.task import Case, check, make, threshold_of  # noqa: E402
from optprune_fast.bench import markdown  # noqa: E402
from optprune_fast.bench.machine import describe_machine, on_threads  # noqa: E402

LEAST_S = 2e-3  # a shorter call is repeated until it lasts so long
PATIENCE_S = 4.0  # a way that has taken so long in all is not asked again


def timed(work: Callable[[], object], times: int) -> tuple[float, float]:
    """(processor seconds, seconds) of one of `times` calls."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - cpu) / times, (time.perf_counter() - wall) / times


def often(work: Callable[[], object]) -> int:
    work()
    return max(1, round(LEAST_S / max(timed(work, 1)[0], 1e-7)))


def measure(name: str, case: Case, ways: Iterable[str], rounds: int) -> list[dict[str, Any]]:
    """A row for each way that takes the case, with the floor beside it."""
    tensors = make(case)
    threshold, pool = threshold_of(tensors, case.k), int(case.pool * case.size)
    reads = often(lambda: floor.read(tensors))
    rows: list[dict[str, Any]] = []
    for way in ways:
        module = WAYS[way]
        if module.declines(case) is not None:
            continue
        run, masks = module.prepare(tensors, case.k, pool)
        first, _ = timed(run, 1)
        check(tensors, masks(), case.k, threshold, module.EXACT)
        times = often(run) if first < PATIENCE_S / 8 else 1
        taken: list[float] = []
        floors: list[float] = []
        busy: list[float] = []
        before = timed(lambda: floor.read(tensors), reads)[0]
        while len(taken) < rounds and (not taken or first + sum(taken) * times < PATIENCE_S):
            cpu, wall = timed(run, times)
            after = timed(lambda: floor.read(tensors), reads)[0]
            taken.append(cpu)
            floors.append((before + after) / 2)
            busy.append(cpu / wall)
            before = after
        ratios = [t / f for t, f in zip(taken, floors, strict=True)]
        rows.append({"case": name, "way": way, "n": case.size, "dtype": case.dtype, "columns": case.columns,
                     "tensors": case.tensors, "values": case.values, "keep": case.keep, "pool": case.pool,
                     "calls": len(taken), "median_s": statistics.median(taken), "lowest_s": min(taken),
                     "highest_s": max(taken), "floor_s": statistics.median(floors), "floor_lowest_s": min(floors),
                     "ratio": statistics.median(ratios), "lowest_ratio": min(ratios), "cpu_of_wall": max(busy)})
        print(f"{name}: {way} {1000 * rows[-1]['median_s']:.3f} ms, {rows[-1]['ratio']:.2f} reads", file=sys.stderr,
              flush=True)
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="weights that cost is drawn against")
    parser.add_argument("--large", nargs="+", type=int, default=list(LARGE), help="weights of the other cases")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and weights")
    parser.add_argument("--small", action="store_true", help="few weights: shows that everything runs, no result")
    options = parser.parse_args(arguments)
    aside = options.quick or options.small
    if aside:
        options.rounds = 3 if options.quick else 1
        options.sizes = list(SMALL) if options.small else [n for n in options.sizes if n <= 10**7]
        options.large = [SMALL[-1]] if options.small else [n for n in options.large if n <= 10**7]
    machine = describe_machine()
    rows, peaks = [], []
    with on_threads(1):
        for name, case, ways in cases(options.sizes, options.large):
            rows += measure(name, case, [way for way in ways if way in options.ways], options.rounds)
    for case in memory.cases(min(options.large)):
        peaks += [row for way in options.ways if (row := memory.measure(case, way)) is not None]
    machine["load_after"] = [round(load, 2) for load in os.getloadavg()]
    path = write("threshold", "threshold", rows, machine, vars(options), ASIDE if aside else None,
                 floor=f"an {floor.instructions()} loop that reads and does nothing else", numpy=NUMPY_DISPATCH,
                 memory=peaks)
    print(markdown(HEADER, [cells(row) for row in rows]))
    print(f"\n{path}")


if __name__ == "__main__":
    main()
