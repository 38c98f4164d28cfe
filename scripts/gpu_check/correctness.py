"""Is it right: operations, what only a GPU can run of a kernel, sparse layers, whole networks, machine code."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import torch

from benchmarks.deploy import gpu as layers
from benchmarks.masked_forward.gpu import torch_precision
from benchmarks.masked_forward.gpu_agrees import NETWORKS, network_faults
from benchmarks.masked_forward.gpu_linear import linear_ways, operands
from gpu_check.stage import At, Device, Fault, Found, Skipped, Stage
from optprune_fast.ops.masked_linear import masked_linear, operation, triton_impl
from optprune_fast.ops.masked_linear.reference import masked_linear_reference
from optprune_fast.ops.precision import PRECISIONS
from optprune_fast.ops.topk_threshold import cuda_impl as ranks_cuda
from optprune_fast.ops.topk_threshold import operation as ranks_operation
from optprune_fast.ops.topk_threshold import triton_impl as ranks_triton
from optprune_fast.ops.triton_support import family, product
from optprune_fast.runtime import triton
from optprune_fast.testing import masked_code, moved_code, rank_code
from optprune_fast.testing.generation import generation_faults
from optprune_fast.testing.on_device import Verdict, verdicts
from optprune_fast.testing.ranks import judge_ranks, rank_cases

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
FAR = 2**30 + 8  # numbers between rows of which the third begins beyond 2^31


# ---- operations


def operations(device: Device) -> Iterator[Found]:
    """Every operation on the device, all samples: a row for each backend and dtype."""
    with torch_precision("fp32"):  # torch's convolutions would otherwise round their factors to 10 bits on a GPU
        for verdict in verdicts(device.name, device.backends, DTYPES):
            name = f"{verdict.operation} {verdict.backend} {verdict.dtype}"
            yield At(f"after {name}")
            yield verdict
            yield from (Fault(f"{name} {fault}") for fault in verdict.faults)


def agreement(verdicts: Sequence[Verdict]) -> str:
    head = f"{'operation':<20}{'backend':<9}{'dtype':<10}{'agree':>7}{'declined':>10}{'wrong':>7}"
    return "\n".join([head, *(
        f"{v.operation:<20}{v.backend:<9}{v.dtype:<10}{v.agreed:>7}{v.declined:>10}{len(v.faults):>7}"
        for v in verdicts)])


def choice(device: Device) -> Iterator[Found]:
    """What serves such tensors when nobody asks for a backend is not plain torch."""
    for dtype in DTYPES:
        chosen = operation.resolve(*operands(1, 1, 1, 1, dtype, device.name))
        if chosen.backend == "torch":
            yield Fault(f"masked_linear {dtype} runs as {chosen}")


# ---- ways of a kernel


def offsets(device: Device) -> Iterator[Found]:
    """Where 32-bit offsets suffice, 64-bit ones give the same bits; where they do not, rows are still found."""
    for dtype in DTYPES:
        x, weight, words = operands(3, 65, 65, 130, dtype, device.name)
        narrow, wide = (x.new_full((3, 65, 65), float("nan")) for _ in range(2))
        for out, is_wide in ((narrow, False), (wide, True)):
            triton_impl.launch(x, weight, words, out, product(x, 65, 3, "fp32", shared=True, wide=is_wide))
        if not torch.equal(narrow, wide):
            yield Fault(f"triton {dtype}: 64-bit offsets change bits")


def far_rows(device: Device) -> Iterator[Found]:
    """Rows that begin beyond 2^31 numbers are found."""
    for dtype in DTYPES:
        size = 2 * FAR + 65
        needed, free = size * dtype.itemsize, torch.cuda.mem_get_info()[0]
        if free < needed + 2**30:
            yield Skipped(f"{dtype}: needs {needed / 2**30:.0f} GiB and some, {free / 2**30:.0f} GiB are free")
            continue
        x, weight, words = operands(2, 3, 5, 65, dtype, device.name)
        far = torch.empty(size, device=device.name, dtype=dtype).as_strided((3, 65), (FAR, 1)).copy_(x)
        for backend in ("triton", "cuda"):
            if operation.missing(backend) is None:
                there = masked_linear(far, weight, words, backend=backend)
                if not torch.equal(there, masked_linear(x, weight, words, backend=backend)):
                    yield Fault(f"{backend} {dtype}: rows beyond 2^31 numbers are not found")
        del far


def copies(device: Device, backend: str = "cuda") -> Iterator[Found]:
    """However rows are aligned, and so copied, whole numbers come out exactly in every dtype."""
    for dtype in DTYPES:
        for columns in (75, 74, 72):  # rows that are a multiple of 2, 4 and 16 bytes apart, of 16-bit numbers
            x, weight, words = operands(3, 130, 70, columns, dtype, device.name)
            reason = operation.reason(backend, x, weight, words)
            if reason is not None:
                yield Skipped(f"{backend} {dtype}, rows of {columns}: {reason}")
                continue
            x, weight = (t.mul_(2).round_().clamp_(-4, 4) for t in (x, weight))
            exact = masked_linear_reference(x, weight, words)
            for name, run in linear_ways(backend, x, weight):
                if not torch.equal(run(x, weight, words).double(), exact):
                    yield Fault(f"masked_linear {name} {dtype}: rows of {columns} numbers come out wrong")


def ranks(device: Device) -> Iterator[Found]:
    """Every way to a key of topk_threshold."""
    launches = {"triton": (lambda plan, drop: ranks_triton.launch(plan, drop=drop), ranks_triton.TILE_WORDS),
                "cuda": (ranks_cuda.enqueue, ranks_cuda.TILE_WORDS)}
    for backend, (launch, tile_words) in launches.items():
        reason = ranks_operation.missing(backend)
        if reason is not None:
            yield Skipped(f"{backend}: {reason}")
            continue
        yield At(backend)
        for case in rank_cases():
            try:
                judge_ranks(launch, tile_words, case, device.name)
            except AssertionError as fault:
                yield Fault(f"topk_threshold {backend} {case.name}: {fault}")


def generation(device: Device) -> Iterator[Found]:
    """A generation of a search has the bits of the CPU, and nothing waits."""
    yield from map(Fault, generation_faults(device.name, ("cuda", "triton")))


# ---- layers and networks


def sparse_layers(device: Device) -> Iterator[Found]:
    with torch_precision("fp32"):
        yield from map(Fault, layers.faults(device.name))


def networks(device: Device, names: Sequence[str] = tuple(NETWORKS),
             precisions: Sequence[str] = tuple(PRECISIONS)) -> Iterator[Found]:
    """Whole networks in each precision."""
    with torch_precision("fp32"):
        for name in names:
            yield At(name)
            yield from map(Fault, network_faults(device.name, device.engine, precisions, (name,)))


# ---- machine code


def masked_machine_code(device: Device) -> Iterator[Found]:
    """Every shipped launch of the masked Triton kernels, compiled for a card of this kind, by several processes."""
    oldest = masked_code.CHECKED[family(torch.device("cuda"))]
    todo = [c for capability, c in (*masked_code.configurations(), *masked_code.cast_on_load()) if capability == oldest]
    workers = min(8, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        found = pool.map(masked_code.faults_of_shipped, todo, [oldest] * len(todo), chunksize=4)
        for number, (c, faults) in enumerate(zip(todo, found, strict=True), 1):
            if number % 40 == 0:
                yield At(f"{number} of {len(todo)}")
            yield from (Fault(f"machine code of {c}: {fault}") for fault in faults)


def other_machine_code(device: Device) -> Iterator[Found]:
    """That of topk_threshold, rows_linear and moved_linear, whatever a call may ask for: nothing spills."""
    major, minor = torch.cuda.get_device_capability()
    for name, constants in rank_code.configurations():
        code = rank_code.compile_kernel(name, 10 * major + minor, **constants)
        if code.stack_bytes:
            yield Fault(f"topk_threshold triton {name} {constants}: {code.stack_bytes} bytes spill")
    yield At("rows_linear")
    yield from map(Fault, layers.spills(10 * major + minor))
    yield At("moved_linear")
    yield from map(Fault, moved_code.spills(10 * major + minor))


_triton = partial(Stage, needs=triton.missing)  # a check of Triton kernels
STAGES = (
    Stage("operations", operations, 180, title="operations against float64, all samples", table=agreement),
    _triton("choice of backend", choice, 30),
    _triton("offsets", offsets, 30),
    Stage("far rows", far_rows, 30),
    Stage("copies", copies, 30),
    Stage("ranks", ranks, 60),
    Stage("generation", generation, 60),
    _triton("sparse layers", sparse_layers, 60),
    _triton("networks", networks, 120),
    _triton("masked machine code", masked_machine_code, 90),
    _triton("other machine code", other_machine_code, 60),
)
