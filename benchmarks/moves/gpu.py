"""Losses of fresh swaps of one mask on a GPU: by moves, as a population of strangers, and by torch's vmap.

`make gpu-check` runs it; there is no other command. A way that is wrong gets no time. Torch's masks are unpacked before
the clock starts; swaps become masks within the population's time.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.moves.task import fresh_swaps, parent_of
from optprune_fast.bench.oracle import Oracle
from optprune_fast.bench.problem import Masks, Problem
from optprune_fast.bench.rivals import vmap
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.operators import swap
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.models import MLP, LeNet5

Times = Callable[[Callable[[], object], str, int], list[float]]
REPEATS, CHECKED = 20, 32


@dataclass(frozen=True)
class Case:
    """M swaps of the magnitude mask at 95 % of one network, on B samples."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    M: int
    B: int

    def __str__(self) -> str:
        return f"{self.name} M{self.M} B{self.B}"

    def problem(self) -> Problem:
        torch.manual_seed(0)
        model, inputs = self.make().eval().requires_grad_(False), torch.randn(self.B, *self.shape)
        return Problem(self.name, model, inputs, torch.randint(model(inputs[:1]).shape[1], (self.B,)))


CASES = (
    Case("MLP 784-40-20-10", partial(MLP, [784, 40, 20, 10]), (784,), 1024, 5000),
    Case("MLP 784-300-100-10", partial(MLP, [784, 300, 100, 10]), (784,), 1024, 5000),
    Case("MLP 784-300-100-10", partial(MLP, [784, 300, 100, 10]), (784,), 96, 5000),
    Case("LeNet-5", LeNet5, (1, 28, 28), 256, 256),
)


@dataclass(frozen=True)
class Row:
    """times: the time of the population over this one's"""

    case: str
    way: str
    median_us: float
    mad_us: float
    swaps_per_s: float
    times: float
    error: float


def measure(device: str, case: Case, backend: str, times_us: Times) -> Iterator[Row]:
    """A row each way, moves first. `RivalError` where one is wrong."""
    problem = case.problem()
    parent = parent_of(problem)
    swaps = fresh_swaps(parent, case.M, 1)
    oracle = Oracle(problem, Masks(swap(parent, swaps[:CHECKED])), candidates=5)
    there = Problem(problem.name, copy.deepcopy(problem.model).to(device), problem.inputs.to(device),
                    problem.targets.to(device))
    found: list[Row] = []
    for way, run in ways(there, parent.to(device), swaps.to(device), backend):
        error = oracle.check(way, run()[:CHECKED].cpu())
        times = times_us(run, device, REPEATS)
        median = statistics.median(times)
        found.append(Row(str(case), way, median, statistics.median(abs(t - median) for t in times),
                         1e6 * case.M / median, 0.0, error))
    [population] = [row.median_us for row in found if row.way == "population"]
    yield from (replace(row, times=population / row.median_us) for row in found)


def ways(problem: Problem, parent: PackedMasks, swaps: Tensor, backend: str
         ) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    evaluator = Evaluator(problem.model, (problem.inputs, problem.targets), backend=backend, reuse=())
    yield "moves", lambda: evaluator.moves(parent, swaps)
    yield "population", lambda: evaluator(swap(parent, swaps))
    masks = Masks(swap(parent, swaps))
    yield "vmap, chunks", partial(vmap.prepare_chunked(problem, masks).fitness, masks)


def table(rows: Sequence[Row]) -> str:
    head = f"{'case':<34}{'way':<14}{'us':>11}{'MAD':>9}{'swaps a second':>16}{'x population':>14}{'error':>10}"
    return "\n".join([head, *(
        f"{r.case:<34}{r.way:<14}{r.median_us:>11.1f}{r.mad_us:>9.1f}{r.swaps_per_s:>16.0f}{r.times:>14.2f}"
        f"{r.error:>10.1e}" for r in rows)])
