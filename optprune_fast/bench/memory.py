"""How much memory a rival needs beyond its inputs: the high-water mark of a fresh process."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from optprune_fast.bench.machine import on_threads
from optprune_fast.bench.problem import Masks, Problem, fresh_masks
from optprune_fast.bench.rival import Rival
from optprune_fast.runtime.memory import give_back

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_beyond_inputs(make: Callable[[], Problem], rival: Rival, density: float, candidates: int,
                       threads: int) -> int | None:
    """Bytes; None where the system does not tell, or the rival declines, or it compiles (the compiler's memory would
    be counted).

    make:  gives the problem in the other process, so it must be picklable: a function of a module, or a partial of one
    """
    if rival.slow_start or not STATUS.exists():
        return None
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_peak, make, rival, density, candidates, threads).result()


def _peak(make: Callable[[], Problem], rival: Rival, density: float, candidates: int, threads: int) -> int | None:
    with on_threads(threads):
        problem = make()
        if rival.declines(problem):
            return None
        masks = fresh_masks(problem, density, candidates, 1)
        if not rival.ours:
            _ = masks.dense  # the masks are inputs, in the form that the rival takes
        one = Masks(masks.packed[:1])
        load(rival, problem, one)
        inputs = settled()
        prepared = rival.prepare(problem, one)
        try:
            CLEAR.write_text("5")  # the mark starts anew: what preparing took and gave back is not counted
        except OSError:
            return None
        prepared.fitness(masks)
        return max(0, high_water() - inputs)


def load(rival: Rival, problem: Problem, one: Masks) -> None:
    """Have the rival load its libraries, some 100 MiB of code, on one sample; what that took is given back."""
    tiny = Problem(problem.name, problem.model, problem.inputs[:1], problem.targets[:1])
    rival.prepare(tiny, one).fitness(one)


def settled() -> int:
    """Bytes that the process holds, once what it does not need is given back."""
    gc.collect()
    give_back()
    return 1024 * _kilobytes("VmRSS")


def high_water() -> int:
    """The most bytes that the process has held, since its start or since `CLEAR` was written."""
    return 1024 * _kilobytes("VmHWM")


def _kilobytes(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
