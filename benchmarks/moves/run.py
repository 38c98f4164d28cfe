"""Exact swaps a second, the same neighbours as a population, and plain torch from cached activations, where it can:
JSON, and a Markdown table.

    python -m benchmarks.moves.run [--networks mlp lenet5] [--backends native numba] [--quick]

Each timed call has fresh swaps of the same parent, as in a search between two accepted moves; the first call with a
parent, which fills whatever caches there are, is reported beside it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

import optprune_fast as opf
from benchmarks.moves import incremental
from benchmarks.moves.task import NETWORKS, check, fresh_swaps, parent_of, problem
from benchmarks.store import ASIDE, write
from optprune_fast.bench import markdown
from optprune_fast.bench.machine import describe_machine, on_threads
from optprune_fast.masks.operators import swap

HEADER = ("network", "backend", "way", "N", "M", "threads", "swaps a second", "ms a call", "lowest to highest",
          "first call, ms", "times population", "error")
CHECKED = 32


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(name: str, backend: str, samples: int, moves: int, threads: int, rounds: int,
            small: bool) -> list[dict[str, Any]]:
    """A row each for moves, the neighbours as a population of strangers, and plain torch where `incremental` can; the
    same swaps for all, made into masks within the population's time."""
    task = problem(name, samples, small)
    parent = parent_of(task)
    with on_threads(threads):
        evaluator = opf.Evaluator(task.model, (task.inputs, task.targets), backend=backend)
        first = seconds(lambda: evaluator.moves(parent, fresh_swaps(parent, 1, 0)))
        strangers = opf.Evaluator(task.model, (task.inputs, task.targets), backend=backend, reuse=())
        ways: dict[str, Callable[[Tensor], Tensor]] = {
            "moves": lambda swaps: evaluator.moves(parent, swaps),
            "population": lambda swaps: strangers(swap(parent, swaps))}
        if incremental.declines(task) is None:
            ways["torch, cached"] = incremental.prepare(task, parent)
        few = fresh_swaps(parent, min(CHECKED, moves), 1)
        errors = {way: check(task, run(few), parent, few, strangers) for way, run in ways.items()}
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            swaps = fresh_swaps(parent, moves, 2 + number)
            for way, run in ways.items():
                taken[way].append(seconds(partial(run, swaps)))
    rows = []
    population = statistics.median(taken["population"][1:])
    for way, (_, *times) in taken.items():  # the first round warms up
        median = statistics.median(times)
        rows.append({"network": name, "backend": "torch" if way == "torch, cached" else evaluator.backend, "way": way,
                     "N": samples, "M": moves, "threads": threads, "calls": len(times),
                     "sparsity": 1 - int(parent.count()[0]) / parent.layout.n,
                     "median_s": median, "lowest_s": min(times), "highest_s": max(times),
                     "swaps_per_s": moves / median, "first_call_s": first if way == "moves" else None,
                     "ratio": population / median, "error": errors[way]})
    return rows


def cells(row: dict[str, Any]) -> list[str]:
    first = row["first_call_s"]
    return [row["network"], row["backend"], row["way"], str(row["N"]), str(row["M"]), str(row["threads"]),
            f"{row['swaps_per_s']:.0f}", f"{1000 * row['median_s']:.2f}",
            f"{1000 * row['lowest_s']:.2f} to {1000 * row['highest_s']:.2f}",
            "" if first is None else f"{1000 * first:.2f}", f"{row['ratio']:.2f}", f"{row['error']:.1e}"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--backends", nargs="+", default=["native"])
    parser.add_argument("--N", type=int, help="samples; each network has its own default")
    parser.add_argument("--M", type=int, help="swaps a call; each network has its own default")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="fewer swaps and rounds")
    parser.add_argument("--small", action="store_true", help="tiny networks: shows that everything runs, no result")
    options = parser.parse_args(arguments)
    machine = describe_machine()
    aside = options.quick or options.small
    rows = []
    for name in options.networks:
        network = NETWORKS[name]
        samples = options.N or (20 if options.small else network.N)
        moves = options.M or (8 if options.small else network.M // 4 if options.quick else network.M)
        for backend in options.backends:
            for threads in options.threads:
                print(f"{name}: {moves} swaps, {samples} samples, {backend}", file=sys.stderr, flush=True)
                rows += measure(name, backend, samples, moves, threads, 2 if aside else options.rounds, options.small)
    path = write("moves", "moves", rows, machine, vars(options), ASIDE if aside else None)
    print(markdown(HEADER, [cells(row) for row in rows]))
    print(f"\n{path}")


if __name__ == "__main__":
    main()
