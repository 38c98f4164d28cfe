"""Is everything right on this machine's GPU? Imports, every operation against float64, a table of timings last.

    python scripts/gpu_check.py            # after: python -m pip install --no-build-isolation --no-deps .

Needs no network and no pytest. Every check is made, however long it takes; networks whose timing would begin later than
400 seconds after the start are left out, by name. Exit code 0: all results agree; 1: some do not, or something that
must run on a GPU cannot; 2: there is no GPU. Writes benchmarks/results/gpu-<card>-<date>.json.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optprune_fast.ops.masked_linear import masked_linear, operation, triton_impl
from optprune_fast.ops.masked_linear.reference import masked_linear_reference
from optprune_fast.ops.precision import PRECISIONS
from optprune_fast.ops.topk_threshold import cuda_impl as ranks_cuda
from optprune_fast.ops.topk_threshold import operation as ranks_operation
from optprune_fast.ops.topk_threshold import triton_impl as ranks_triton
from optprune_fast.ops.triton_support import product
from optprune_fast.ops.words import pack, unpack
from optprune_fast.runtime import cuda, triton
from optprune_fast.runtime.doctor import doctor
from optprune_fast.testing import masked_code
from optprune_fast.testing.generation import generation_faults
from optprune_fast.testing.on_device import verdicts
from optprune_fast.testing.races import race_faults, sanitizer
from optprune_fast.testing.rank_code import compile_kernel, configurations
from optprune_fast.testing.ranks import judge_ranks, rank_cases
from optprune_fast.testing.tolerance import assert_as_accurate

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # last: the package is the one that is installed

from benchmarks.deploy import gpu as layers  # noqa: E402
from benchmarks.masked_forward import gpu as networks  # noqa: E402
from benchmarks.masked_forward.gpu_agrees import NETWORKS, network_faults  # noqa: E402
from benchmarks.threshold import gpu as threshold  # noqa: E402

BACKENDS = ("cuda", "triton", "torch")
SECONDS = 400  # after so many no further network is timed
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
Run = Callable[[Tensor, Tensor, Tensor], Tensor]


# ---- facts


def said_by(*command: str) -> str:
    """What a tool prints, or "unknown" where it is absent or fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return run.stdout.strip().splitlines()[0] if run.stdout.strip() else "unknown"


def facts(device: str) -> dict[str, str]:
    on_gpu = device == "cuda"
    properties = torch.cuda.get_device_properties(0) if on_gpu else None
    return {
        "card": properties.name if properties else platform.processor() or platform.machine(),
        "capability": f"{properties.major}.{properties.minor}" if properties else "none",
        "memory": f"{properties.total_memory / 2**30:.0f} GiB" if properties else "none",
        "driver": said_by("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if on_gpu else "none",
        "sanitizer": "compute-sanitizer" if sanitizer() else "none, so races of CUDA kernels are not watched",
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "commit": said_by("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "command": "python scripts/gpu_check.py",
    }


# ---- checks


def check_operations(device: str, backends: tuple[str, ...]) -> tuple[list[dict[str, Any]], list[str]]:
    """Every operation on the device: a row for each backend and dtype, and what is wrong."""
    rows, faults = [], []
    for verdict in verdicts(device, backends, DTYPES):
        name = f"{verdict.operation} {verdict.backend} {verdict.dtype}"
        print(f"  {name:<42}{verdict.agreed:>4} agree{verdict.declined:>4} declined{len(verdict.faults):>4} wrong",
              flush=True)
        rows.append(asdict(verdict))
        faults += [f"{name} {fault}" for fault in verdict.faults]
    return rows, faults


def check_wide_offsets() -> list[str]:
    """Where 32-bit offsets suffice, 64-bit ones give the same bits; where they do not, rows are still found."""
    faults = []
    for dtype in DTYPES:
        x, weight, words = operands(3, 65, 65, 130, dtype, "cuda")
        narrow, wide = (x.new_full((3, 65, 65), float("nan")) for _ in range(2))
        for out, is_wide in ((narrow, False), (wide, True)):
            triton_impl.launch(x, weight, words, out, product(x, 65, 3, "fp32", shared=True, wide=is_wide))
        if not torch.equal(narrow, wide):
            faults.append(f"triton {dtype}: 64-bit offsets change bits")
    step = 2**30 + 8
    for dtype in DTYPES if torch.cuda.mem_get_info()[0] > 3 * 4 * step else ():
        x, weight, words = operands(2, 3, 5, 65, dtype, "cuda")
        far = torch.empty(2 * step + 65, device="cuda", dtype=dtype).as_strided((3, 65), (step, 1)).copy_(x)
        for backend in ("triton", "cuda"):
            if operation.missing(backend) is None:
                there = masked_linear(far, weight, words, backend=backend)
                if not torch.equal(there, masked_linear(x, weight, words, backend=backend)):
                    faults.append(f"{backend} {dtype}: rows beyond 2^31 elements are not found")
        del far
    return faults


def check_copies(device: str, backend: str = "cuda") -> list[str]:
    """However rows are aligned, and so copied, whole numbers come out exactly in every dtype."""
    faults = []
    for dtype in DTYPES:
        for columns in (75, 74, 72):  # rows that are a multiple of 2, 4 and 16 bytes apart, of 16-bit numbers
            x, weight, words = operands(3, 130, 70, columns, dtype, device)
            if operation.reason(backend, x, weight, words) is not None:
                continue
            x, weight = x.mul_(2).round_().clamp_(-4, 4), weight.mul_(2).round_().clamp_(-4, 4)
            if not torch.equal(masked_linear(x, weight, words, backend=backend).double(),
                               masked_linear_reference(x, weight, words)):
                faults.append(f"masked_linear {backend} {dtype}: rows of {columns} numbers come out wrong")
    return faults


def check_ranks(device: str) -> list[str]:
    """Every way to a key of topk_threshold, and the machine code of every kernel that Triton may be asked for."""
    launches = {"triton": (lambda plan, drop: ranks_triton.launch(plan, drop=drop), ranks_triton.TILE_WORDS),
                "cuda": (ranks_cuda.enqueue, ranks_cuda.TILE_WORDS)}
    faults = []
    for backend, (launch, tile_words) in launches.items():
        for case in rank_cases() if ranks_operation.missing(backend) is None else ():
            try:
                judge_ranks(launch, tile_words, case, device)
            except AssertionError as fault:
                faults.append(f"topk_threshold {backend} {case.name}: {fault}")
    major, minor = torch.cuda.get_device_capability()
    for name, constants in configurations():
        code = compile_kernel(name, 10 * major + minor, **constants)
        if code.stack_bytes:
            faults.append(f"topk_threshold triton {name} {constants}: {code.stack_bytes} bytes spill")
    return faults


def check_machine_code() -> list[str]:
    """Every shipped launch of the masked Triton kernels, compiled for a card of this kind, by several processes."""
    oldest = 90 if torch.cuda.get_device_capability() >= (9, 0) else 80
    todo = [c for capability, c in (*masked_code.configurations(), *masked_code.cast_on_load()) if capability == oldest]
    workers = min(8, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        found = pool.map(masked_code.faults_of_shipped, todo, [oldest] * len(todo), chunksize=4)
        return [f"machine code of {c}: {fault}" for c, faults in zip(todo, found, strict=True) for fault in faults]


def check_choice(device: str) -> list[str]:
    """What serves such tensors when nobody asks for a backend is not plain torch."""
    choices = {dtype: operation.resolve(*operands(1, 1, 1, 1, dtype, device)) for dtype in DTYPES}
    return [f"masked_linear {dtype} runs as {choice}" for dtype, choice in choices.items() if choice.backend == "torch"]


# ---- timings


@dataclass(frozen=True)
class Task:
    """P candidates of one layer, shared input."""

    P: int
    B: int
    O: int  # noqa: E741
    I: int  # noqa: E741

    def __str__(self) -> str:
        return f"P{self.P}-B{self.B}-O{self.O}-I{self.I}"


TASKS = (Task(64, 256, 300, 784), Task(1024, 256, 300, 784), Task(256, 256, 1024, 1024))


@dataclass(frozen=True)
class Row:
    task: str
    dtype: str
    implementation: str
    median_us: float
    mad_us: float
    tflops: float
    times_vmap: float
    error: float


def operands(P: int, B: int, O: int, I: int, dtype: torch.dtype, device: str  # noqa: E741
             ) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(P + B + O + I)
    x, weight = (torch.randn(n, I, generator=generator).to(dtype) for n in (B, O))
    words = torch.stack([pack(torch.rand(O, I, generator=generator) < 0.05) for _ in range(P)])
    return x.to(device), weight.to(device), words.to(device)


def vmap_over(dense: Tensor) -> Run:
    """What a user could already do: one mask of the weights' dtype per candidate, unpacked before the clock starts."""
    linear = torch.nn.functional.linear
    return lambda x, weight, words: torch.vmap(lambda mask: linear(x, weight * mask))(dense)


def times_us(run: Callable[[], object], device: str, repeats: int = 20, before: Callable[[], object] = lambda: None
             ) -> list[float]:
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


def timings(device: str, tasks: tuple[Task, ...], backends: tuple[str, ...]) -> Iterator[Row]:
    """A row for each implementation that takes the task. AssertionError if one is wrong: no time for a wrong answer."""
    for task in tasks:
        for dtype in (torch.float32, torch.bfloat16):
            x, weight, words = operands(task.P, task.B, task.O, task.I, dtype, device)
            runs: dict[str, Run] = {"torch vmap": vmap_over(unpack(words, task.I).to(dtype))}
            for backend in backends:
                if operation.reason(backend, x, weight, words) is None:
                    name = "torch loop" if backend == "torch" else backend
                    runs[name] = functools.partial(masked_linear, backend=backend)
            few = words[:4]
            exact = masked_linear_reference(x, weight, few)
            magnitude = float(masked_linear_reference(x.abs(), weight.abs(), few).max())
            plain = masked_linear(x, weight, few, backend="torch")
            vmap_median = 0.0
            for name, run in runs.items():
                result = run(x, weight, words)[:4]
                assert_as_accurate(result, plain, exact, terms=task.I, magnitude=magnitude)
                times = times_us(functools.partial(run, x, weight, words), device)
                median = statistics.median(times)
                vmap_median = vmap_median or median  # vmap is the first
                yield Row(str(task), str(dtype).removeprefix("torch."), name, median,
                          statistics.median(abs(t - median) for t in times),
                          2e-6 * task.P * task.B * task.O * task.I / median, vmap_median / median,
                          float((result.double() - exact).abs().max()))


def table(rows: list[Row]) -> str:
    head = (f"{'task':<24}{'dtype':<10}{'implementation':<16}{'us':>10}{'MAD':>8}{'TFLOP/s':>9}{'x vmap':>8}"
            f"{'error':>10}")
    return "\n".join([head, *(
        f"{r.task:<24}{r.dtype:<10}{r.implementation:<16}{r.median_us:>10.1f}{r.mad_us:>8.1f}{r.tflops:>9.2f}"
        f"{r.times_vmap:>8.2f}{r.error:>10.1e}" for r in rows)])


# ---- the whole


def main(arguments: list[str] | None = None, *, device: str = "cuda", backends: tuple[str, ...] = BACKENDS,
         tasks: tuple[Task, ...] = TASKS, cases: tuple[threshold.Case, ...] = threshold.CASES, engine: str = "triton",
         nets: tuple[networks.Case, ...] = networks.CASES, precisions: tuple[str, ...] = tuple(PRECISIONS),
         models: tuple[str, ...] = tuple(NETWORKS), sparse: tuple[layers.Case, ...] = layers.CASES,
         seconds: float = SECONDS) -> int:
    """All but `arguments` is for the tests of this script, which have no GPU."""
    deadline = time.monotonic() + seconds
    parser = argparse.ArgumentParser(description="Check every operation on this machine's GPU, and time some of them.")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results", help="folder of the JSON file")
    folder: Path = parser.parse_args(arguments).results
    print(doctor(), flush=True)
    if device == "cuda" and not torch.cuda.is_available():
        print("\ngpu-check: there is no GPU here that torch can use.\n"
              f"{triton.missing() or 'torch.cuda.is_available() is False'}.\n"
              "Run it on a machine with an NVIDIA GPU; `make test` checks the GPU code as far as it goes without one.",
              file=sys.stderr)
        return 2
    # float32 means float32: torch's convolutions would otherwise round their factors to 10 bits on a GPU.
    torch.backends.cudnn.allow_tf32 = False
    known, faults = facts(device), []
    print("\n" + "\n".join(f"{name:<11}{value}" for name, value in known.items()))
    if device == "cuda":
        print(f"cuda       {cuda.missing() or 'compiled for ' + str(cuda.module().architectures())}")
        if triton.missing():
            faults.append(f"triton, which GPU tensors rely on: {triton.missing()}")
    print("\nagainst float64, all samples:", flush=True)
    checks, wrong = check_operations(device, backends)
    faults += wrong
    if device == "cuda" and not triton.missing():
        faults += check_wide_offsets()
        faults += check_copies(device)
        faults += check_choice(device)
        faults += check_ranks(device)
        faults += generation_faults(device, ("cuda", "triton"))
        faults += race_faults()
        faults += check_machine_code()
        faults += layers.faults(device)
    if not faults:  # networks are made of operations
        print("\nnetworks against float64", flush=True)
        faults += network_faults(device, engine, precisions, models)
    rows: list[Row] = []
    ranked: list[threshold.Row] = []
    layered: list[layers.Row] = []
    whole: list[networks.Row] = []
    left_out: list[str] = []
    if not faults:
        rows += timings(device, tasks, backends)
        ranked += threshold.measure(device, cases, backends, times_us)
        layered += layers.measure(device, sparse, backends, times_us)
        chosen = [name for name in networks.PRECISIONS if name in precisions]
        whole += networks.measure(device, nets, engine, chosen, times_us, deadline, left_out)
    folder.mkdir(parents=True, exist_ok=True)
    card = re.sub(r"[^a-z0-9]+", "-", known["card"].lower()).strip("-")
    path = folder / f"gpu-{card}-{known['date']}.json"
    versions = doctor().as_dict()
    path.write_text(json.dumps({**known, "machine": versions, "checks": checks, "faults": faults,
                                "rows": [asdict(row) for row in rows],
                                "networks": [asdict(row) for row in whole], "left_out": left_out,
                                "rows_linear": [asdict(row) for row in layered],
                                "topk_threshold": [asdict(row) for row in ranked]}, indent=1) + "\n")
    print(f"\nwritten: {path}")
    if faults:
        print(f"\ngpu-check: {len(faults)} faults; nothing is timed before they are mended", file=sys.stderr)
        for fault in faults:
            print(f"  {fault}", file=sys.stderr)
        return 1
    print(f"\nmasked_linear, shared input, {known['card']}, driver {known['driver']}, torch {torch.__version__}, "
          f"commit {known['commit']}, {known['date']}\nmedian and MAD of 20 runs; error: largest, against float64\n")
    print(table(rows))
    print("\ntopk_threshold, threshold read; the floor is one read of the weights and one write of words\n")
    print(threshold.table(ranked))
    print("\nrows_linear, bfloat16, 28672 x 8192, no weight in a cache; times a dense layer of torch's\n")
    print(layers.table(layered))
    print("\nnetworks under many masks, density 0.5; x torch: beside torch's fastest in this precision; of dense: of "
          "cuBLAS's\nrate for products of the same shape without masks\n")
    print(networks.table(whole))
    for name in left_out:
        print(f"left out, for want of time: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
