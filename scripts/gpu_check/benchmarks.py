"""Timings, each beside what a user could already call. A way that is wrong gets no time, and is a fault."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch

from benchmarks.deploy import gpu as layers
from benchmarks.masked_forward import gpu as nets
from benchmarks.masked_forward import gpu_linear as linear
from benchmarks.moves import gpu as neighbours
from benchmarks.threshold import gpu as threshold
from benchmarks.threshold.task import Case, WrongMask
from gpu_check.stage import At, Device, Fault, Found, Skipped, Stage
from optprune_fast.bench.oracle import RivalError

C = TypeVar("C")
REPEATS = 20


def times_us(run: Callable[[], object], device: str, repeats: int = REPEATS,
             before: Callable[[], object] = lambda: None) -> list[float]:
    """before: is done before each run, and not timed."""
    run()
    out = []
    for _ in range(repeats):
        before()
        if device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            run()
            end.record()
            torch.cuda.synchronize()
            out.append(1000 * start.elapsed_time(end))
        else:
            begin = time.perf_counter()
            run()
            out.append(1e6 * (time.perf_counter() - begin))
    return out


def by_case(device: Device, cases: Sequence[C], measure: Callable[[C], Iterable[Found]],
            bytes_needed: Callable[[C], int] = lambda case: 0, name: Callable[[C], str] = str) -> Iterator[Found]:
    """Rows of the cases that the device has room for; one that is wrong does not keep the others from it."""
    for number, case in enumerate(cases, 1):
        yield At(f"{number} of {len(cases)}: {name(case)}")
        needed = bytes_needed(case)
        if device.name == "cuda" and needed > (free := torch.cuda.mem_get_info()[0]):
            yield Skipped(f"{name(case)}: needs {needed / 2**30:.0f} GiB, {free / 2**30:.0f} GiB are free")
            continue
        try:
            yield from measure(case)
        except (AssertionError, WrongMask, RivalError) as wrong:
            yield Fault(f"{name(case)}: {wrong}")


def masked_linear(device: Device, cases: Sequence[linear.Case] = linear.CASES) -> Iterator[Found]:
    return by_case(device, cases, lambda case: linear.measure(device.name, case, device.backends, times_us))


def topk_threshold(device: Device, cases: Sequence[Case] = threshold.CASES) -> Iterator[Found]:
    return by_case(device, cases, lambda case: threshold.measure(device.name, case, device.backends, times_us),
                   threshold.bytes_needed, threshold.name)


def rows_linear(device: Device, cases: Sequence[layers.Case] = layers.CASES) -> Iterator[Found]:
    return by_case(device, cases, lambda case: layers.measure(device.name, case, device.backends, times_us),
                   lambda case: case.bytes_needed)


def networks(device: Device, cases: Sequence[nets.Case] = nets.CASES,
             precisions: Sequence[str] = nets.PRECISIONS) -> Iterator[Found]:
    return by_case(device, cases,
                   lambda case: nets.measure(device.name, case, device.engine, precisions, times_us))


def moves(device: Device, cases: Sequence[neighbours.Case] = neighbours.CASES) -> Iterator[Found]:
    return by_case(device, cases, lambda case: neighbours.measure(device.name, case, device.engine, times_us))


_timed = partial(Stage, judges=False)
STAGES = (
    _timed("times: masked_linear", masked_linear, 60, table=linear.table,
           title="masked_linear, shared input; median and MAD of 20 runs; error: largest, against float64"),
    _timed("times: topk_threshold", topk_threshold, 90, table=threshold.table,
           title="topk_threshold, threshold read; the floor is one read of the weights and one write of words"),
    _timed("times: rows_linear", rows_linear, 60, table=layers.table,
           title="rows_linear, bfloat16, 28672 x 8192, no weight in a cache; times a dense layer of torch's"),
    _timed("times: networks", networks, 300, table=nets.table,
           title="networks under many masks, density 0.5; x torch: beside torch's fastest in this precision; of dense: "
                 "of\ncuBLAS's rate for products of the same shape without masks"),
    _timed("times: moves", moves, 60, table=neighbours.table,
           title="fresh swaps of one mask at 95 % sparsity; x population: beside the moved masks as strangers"),
)
