"""One cell measured: its mask found, tuned if asked for, and judged; test data come in last and change nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

import optprune_fast as opf
from benchmarks.study.networks import NETWORKS, Parts, parts, trained
from benchmarks.study.plan import DENSE, OTHER_SEED, RANDOM, Cell, Plan
from optprune_fast.bench.machine import commit
from optprune_fast.cli.experiment import random_small
from optprune_fast.data import Dataset
from optprune_fast.recipe.result import FILE


@dataclass(frozen=True, eq=False)
class Subject:
    """One network of one seed with its data; it is trained when it is first asked for."""

    plan: Plan
    name: str
    seed: int
    dataset: Dataset
    limit: int | None
    folder: Path

    @cached_property
    def parts(self) -> Parts:
        return parts(self.dataset, self.seed)

    @cached_property
    def model(self) -> nn.Module:
        return self._trained(self.seed, self.parts)

    @cached_property
    def other(self) -> nn.Module:
        """The network of another seed, which has its own validation part."""
        seed = self.plan.other_seed(self.seed)
        return self._trained(seed, parts(self.dataset, seed))

    def _trained(self, seed: int, own: Parts) -> nn.Module:
        network = NETWORKS[self.name]
        path = self.folder / "networks" / f"{self.name}-{seed}.safetensors"
        return trained(network, own.calibration, seed, self.plan.epochs or network.epochs, self.limit, path)

    @cached_property
    def judges(self) -> dict[str, opf.Evaluator]:
        return judges(self.model, self.parts)


def judges(model: nn.Module, data: Parts, plan: bool = True) -> dict[str, opf.Evaluator]:
    """plan: capture the network, which pays for many masks only."""
    return {field.name: opf.Evaluator(model, getattr(data, field.name), plan=plan) for field in fields(data)}


def measure(cell: Cell, subject: Subject) -> dict[str, Any]:
    """The cell's row. Ctrl-C raises `KeyboardInterrupt`, also where it only ended the search or the tuning early."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    with interrupts_kept():
        mask, about = found(cell, subject)
        own, tuning = subject.judges, 0.0
        if cell.tuned:
            start, data = time.perf_counter(), subject.parts
            model = opf.finetune(subject.model, mask, data.calibration, validation=data.validation, epochs=cell.tuned,
                                 seed=cell.seed)
            tuning = time.perf_counter() - start
            own = judges(model, data, plan=False)
    seen = {part: {name: float(value) for name, value in judge.metrics(mask).items()} for part, judge in own.items()}
    kept, large = int(mask.count()), opf.magnitude(subject.model, cell.sparsity).mask
    return {**asdict(cell), **about, "kept": kept, "kept_small": kept - int(mask.overlap(large)),
            **{f"{part}_{name}": seen[part][name] for part in seen for name in ("accuracy", "loss")},
            "tuning_seconds": tuning, "load": load, "commit": commit()}


def found(cell: Cell, subject: Subject) -> tuple[opf.PackedMasks, dict[str, Any]]:
    """The mask, and what a search for it took."""
    search = cell.search
    if search is not None:
        result = searched(search, subject)
        if cell.method == RANDOM:
            return random_small(subject.model, result, cell.seed), {}
        return result.mask, {"found_seconds": result.seconds, "found_evaluations": result.evaluations,
                             "screened": result.screened, "gradient_passes": result.gradient_passes,
                             "stopped_by": result.stopped_by}
    if cell.method == DENSE:
        return opf.PackedMasks.full(subject.judges["test"].layout), {}
    model = subject.other if cell.method == OTHER_SEED else subject.model
    return opf.magnitude(model, cell.sparsity).mask, {}


def searched(search: Cell, subject: Subject) -> opf.Result:
    """The result of a search: from its file, or found now. One that was stopped goes on from its journal."""
    place = subject.folder / "searches" / search.path
    if (place / FILE).exists():
        return opf.Result.load(place)
    place.mkdir(parents=True, exist_ok=True)
    journal, data = place / "journal", subject.parts
    result = opf.prune(subject.model, data.calibration, search.sparsity, search.method, search.small,
                       validation=data.validation, evaluations=search.evaluations, time_limit=search.seconds,
                       seed=search.seed, journal=journal)
    if result.stopped_by == "interrupt":
        raise KeyboardInterrupt
    result.save(place)
    journal.unlink()
    return result


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Raise `KeyboardInterrupt` at the end if one came meanwhile and was taken for a wish to stop early."""
    came = []

    def note(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
