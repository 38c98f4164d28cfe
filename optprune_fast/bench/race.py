"""Check all rivals on one cell of the table, then time them in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from optprune_fast.bench.oracle import Oracle, RivalError, agree
from optprune_fast.bench.problem import Masks, Problem, fresh_masks
from optprune_fast.bench.rival import Prepared, Rival
from optprune_fast.runtime.errors import message

PAUSE = 0.02  # seconds before a timed call: the threads of the call before still spin, on the cores of whoever is next


@dataclass
class Lane:
    """One rival in one cell: `declined` says why it does not run; else `error` is from the check, times follow."""

    rival: Rival
    declined: str | None = None
    prepared: Prepared | None = None
    error: float | None = None
    seconds: list[float] = field(default_factory=list)

    def row(self, useful_flop: float | None) -> dict[str, Any]:
        row: dict[str, Any] = {"rival": self.rival.name, "ours": self.rival.ours, "declined": self.declined,
                               "detail": self.prepared.detail if self.prepared else "", "error": self.error,
                               "calls": len(self.seconds)}
        median = statistics.median(self.seconds) if self.seconds else None
        row |= {"median_s": median, "lowest_s": min(self.seconds, default=None),
                "highest_s": max(self.seconds, default=None)}
        row["useful_gflops"] = useful_flop / median / 1e9 if median and useful_flop else None
        return row


@dataclass(frozen=True)
class Rules:
    """rounds: timed calls of each rival; one that has used up its `seconds` stops earlier, after two."""

    rounds: int = 5
    seconds: float = 20.0


def race(problem: Problem, rivals: Sequence[Rival], density: float, candidates: int,
         rules: Rules = Rules()) -> list[dict[str, Any]]:
    """A row for each rival, with its ratio to the best torch rival of this cell (above 1: faster than it).

    In turns, so that a slow minute of the machine falls on all; each round on masks that nobody has seen. Answers of
    timed calls are compared as well. Raises `RivalError` for a rival that fails or is wrong.
    """
    torch.compiler.reset()  # else earlier cells use up the limit of recompilations, and later ones run uncompiled
    lanes = [Lane(rival, rival.declines(problem)) for rival in rivals]
    running = [lane for lane in lanes if lane.declined is None]
    warm = fresh_masks(problem, density, candidates, 0)
    _ = warm.dense  # here, as in the timed rounds: tensors of inference mode would make torch.compile start anew
    oracle = Oracle(problem, warm)
    for lane in running:
        lane.prepared = attempt(lane.rival, lambda lane=lane: lane.rival.prepare(problem, warm))
        lane.error = oracle.check(lane.rival.name, call(lane, warm))
    flop: list[int] = []
    for number in range(1, rules.rounds + 1):
        open_lanes = [lane for lane in running if len(lane.seconds) < 2 or sum(lane.seconds) < rules.seconds]
        if not open_lanes:
            break
        masks = fresh_masks(problem, density, candidates, number)
        if not all(lane.rival.ours for lane in open_lanes):
            _ = masks.dense  # unpacking is ours to pay, not theirs
        flop.append(problem.useful_flop(masks.packed) or 0)
        first: tuple[str, Tensor] | None = None
        for lane in open_lanes:
            time.sleep(PAUSE)
            start = time.perf_counter()
            fitness = call(lane, masks)
            lane.seconds.append(time.perf_counter() - start)
            first = first or (lane.rival.name, fitness)
            agree(lane.rival.name, fitness, *first, oracle.limit)
    mean_flop = statistics.fmean(flop) if flop and all(flop) else None
    return with_ratios([lane.row(mean_flop) for lane in lanes])


def call(lane: Lane, masks: Masks) -> Tensor:
    assert lane.prepared is not None
    prepared = lane.prepared
    result: Tensor = attempt(lane.rival, lambda: prepared.fitness(masks))
    return result


def attempt(rival: Rival, work: Any) -> Any:
    """What `work` gives; whatever it raises becomes a `RivalError` that names the rival."""
    try:
        return work()
    except RivalError:
        raise
    except Exception as error:
        raise RivalError(message(f"rival {rival.name!r}", f"failed: {type(error).__name__}: {error}",
                                 "leave it out by name (--without), and say so beside the table")) from error


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with `best_torch`, the fastest torch rival, and `ratio`, its median over that of the row.

    >>> rows = [{"rival": "ours", "ours": True, "median_s": 1.0}, {"rival": "loop", "ours": False, "median_s": 4.0}]
    >>> with_ratios(rows)[0]["ratio"]
    4.0
    """
    timed = [row for row in rows if not row["ours"] and row["median_s"]]
    best = min(timed, key=lambda row: row["median_s"], default=None)
    return [{**row, "best_torch": best and best["rival"],
             "ratio": best["median_s"] / row["median_s"] if best and row["median_s"] else None} for row in rows]
