"""Does the stages within the time that there is, and says what came of each, whatever came of the others."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch

from gpu_check import report
from gpu_check.build import BUILD, ROOT
from gpu_check.stage import Device, Found, Outcome, Stage, outcome
from gpu_check.worker import Worker

FAMILIES = ("build", "correctness", "races", "benchmarks")
SECONDS = 465  # for everything: with what it takes to end, less than 8 minutes
LEAST = 5  # seconds that are worth beginning a stage for

NO_GPU = """gpu-check: there is no GPU here that torch can use: torch.cuda.is_available() is False.
Run it on a machine with an NVIDIA GPU; `make test` checks the GPU code as far as it goes without one."""


class Runs(Protocol):
    """What runs stages: a `Worker`, or what stands in for one in tests."""

    def found(self, stage: Stage, device: Device, seconds: float) -> Iterator[Found]: ...

    def stop(self) -> None: ...


def main(arguments: Sequence[str] | None = None, *, device: Device | None = None, worker: Runs | None = None,
         build: Stage = BUILD, stages: Sequence[Stage] | None = None, seconds: float = SECONDS) -> int:
    """Exit code 0: all is right; 1: something is not, or it is not known; 2: there is no GPU.

    All but `arguments` is for tests, which have none.
    """
    deadline = time.monotonic() + seconds
    parser = argparse.ArgumentParser(
        prog="gpu_check", description="Build the package, check it on this machine's GPU, time it; within 8 minutes.")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results", help="folder of what it writes")
    parser.add_argument("--installed", action="store_true", help="build nothing: check the package that is installed")
    options = parser.parse_args(arguments)
    device, worker = device or Device(), worker or Worker()
    if device.name == "cuda" and not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    try:
        if not options.installed:
            outcomes += done([build], device, worker, deadline)
            worker.stop()  # it began without the package, and another one takes its place
        if all(o.right for o in outcomes):
            outcomes += done(stages or all_stages(), device, worker, deadline)
    finally:
        worker.stop()
        path = report.write(outcomes, options.results)
        print(f"\n{report.text(outcomes)}\n\nwritten: {path} and .txt", flush=True)
    return 0 if all(o.right for o in outcomes) else 1


def all_stages() -> list[Stage]:
    """Those of all families; they import the package, so it must have been built."""
    importlib.invalidate_caches()
    return [stage for name in FAMILIES for stage in importlib.import_module(f"gpu_check.{name}").STAGES]


def done(stages: Sequence[Stage], device: Device, worker: Runs, deadline: float) -> Iterator[Outcome]:
    """One after another, each within what is left."""
    for stage in stages:
        left = deadline - time.monotonic()
        if left < LEAST:
            yield outcome(stage, ())
            continue
        seconds = min(stage.seconds, left)
        print(f"\n{stage.name}, at most {seconds:.0f} s", flush=True)
        yield outcome(stage, worker.found(stage, device, seconds))
