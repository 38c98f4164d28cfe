"""CUDA kernels under NVIDIA's compute-sanitizer, where there is one: each of its tools a stage."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from gpu_check.stage import Device, Fault, Found, Skipped, Stage
from optprune_fast.testing.races import TOOLS, CannotWatch, race_fault, sanitizer_missing


def watched(device: Device, tool: str) -> Iterator[Found]:
    try:
        fault = race_fault(tool)
    except CannotWatch as reason:
        yield Skipped(str(reason))
        return
    if fault is not None:
        yield Fault(fault)


STAGES = tuple(Stage(f"races: {tool}", partial(watched, tool=tool), 60, needs=sanitizer_missing) for tool in TOOLS)
