"""The whole table: every density, size and number of threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from optprune_fast.bench.machine import measured_bandwidth, measured_peak, on_threads
from optprune_fast.bench.memory import peak_beyond_inputs
from optprune_fast.bench.problem import Problem
from optprune_fast.bench.race import Rules, race
from optprune_fast.bench.rival import Rival

MEMORY_AT = 0.1


def quiet(text: str) -> None:
    pass


def compare(make: Callable[[float], Problem], rivals: Sequence[Rival], *, densities: Sequence[float],
            candidates: int, threads: Sequence[int], rules: Rules = Rules(),  # noqa: B008, it is frozen
            memory: bool = False, say: Callable[[str], None] = quiet) -> list[dict[str, Any]]:
    """A row for each density, number of threads and rival, ready for JSON.

    make:     density -> Problem: a network may be drawn so that its losses differ at that density
    memory:   measure peaks too, at density 0.1 or else the first, on the first number of threads: a process a rival,
              in which `make` must be importable

    Every row has: network, P, B, density, threads, rival, ours, declined, detail, error (largest, against float64),
    calls, median_s, lowest_s, highest_s, useful_gflops, best_torch, ratio, peak_gflops (measured), share_of_peak,
    bandwidth_gb (measured, a thread), share_of_bandwidth (at one float read a multiply-add), memory_bytes.
    """
    rows: list[dict[str, Any]] = []
    for number in threads:
        peak, bandwidth = measured_peak(number), measured_bandwidth()
        for density in densities:
            problem = make(density)
            say(f"{problem.name}: density {density:g}, {candidates} candidates, {len(problem.inputs)} samples, "
                f"{number} thread{'s' if number > 1 else ''}")
            with on_threads(number):
                cell = race(problem, rivals, density, candidates, rules)
            wanted = memory and number == threads[0] and density == memory_density(densities)
            for row, rival in zip(cell, rivals, strict=True):
                row["memory_bytes"] = peak_beyond_inputs(partial(make, density), rival, density, candidates, number
                                                         ) if wanted else None
                row["peak_gflops"] = peak
                useful = row["useful_gflops"]
                row["share_of_peak"] = useful / peak if useful else None
                row["bandwidth_gb"] = bandwidth
                row["share_of_bandwidth"] = 2 * useful / (number * bandwidth) if useful else None
                rows.append({"network": problem.name, "P": candidates, "B": len(problem.inputs), "density": density,
                             "threads": number, **row})
    return rows


def memory_density(densities: Sequence[float]) -> float:
    return MEMORY_AT if MEMORY_AT in densities else densities[0]
