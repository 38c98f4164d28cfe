"""Where a figure comes from: machine, versions, commit, date; and the machine's own limit."""

from __future__ import annotations

import datetime
import functools
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from optprune_fast.runtime.doctor import doctor
from optprune_fast.runtime.errors import message

SIZES = (256, 512, 1024)
PEAK_NAME = "best float32 matrix product of torch"
CACHED_BYTES = 256 << 10  # more than a first-level cache holds, less than a second-level one


def describe_machine() -> dict[str, Any]:
    """What belongs beside every figure.

    >>> sorted(describe_machine())
    ['commit', 'cores', 'date', 'load', 'numba', 'package', 'platform', 'processor', 'python', 'torch', 'torch_uses']
    """
    report = doctor()
    return {"processor": report.processor, "cores": os.cpu_count(), "platform": report.platform,
            "python": report.python, "package": report.version, "torch": report.packages["torch"],
            "numba": report.packages["numba"], "torch_uses": report.torch_instructions,
            "load": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
            "commit": commit(), "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}


def commit() -> str | None:
    """The commit of the package's source, with a plus sign where the tree has changes other than new results; None for
    an installed one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
        return head + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):  # no git here, or a tree that it does not trust
        return None


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
                          ).stdout.strip()


@contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Both sides on this many threads."""
    wish = os.environ.get("OPTPRUNE_THREADS")
    if threads < 1 or (wish and wish != str(threads)):
        raise ValueError(message("bench", "threads must be at least 1, and OPTPRUNE_THREADS would hold for one side "
                                 "only", "unset OPTPRUNE_THREADS", threads=threads, OPTPRUNE_THREADS=wish))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def measured_peak(threads: int, seconds: float = 1.0) -> float:
    """GFLOP/s of torch's best square float32 matrix product on these threads: a measured bound on multiply-adds,
    a little below that of the arithmetic units. Measured once a process.

    >>> measured_peak(1, seconds=0.01) > 0
    True
    """
    best = 0.0
    with on_threads(threads):
        for size in SIZES:
            a, b = torch.ones(size, size), torch.ones(size, size)
            end = time.perf_counter() + seconds / len(SIZES)
            out = a @ b
            while True:
                start = time.perf_counter()
                torch.mm(a, b, out=out)
                now = time.perf_counter()
                best = max(best, 2 * size**3 / (now - start) / 1e9)
                if now > end:
                    break
    return best


@functools.cache
def measured_bandwidth(seconds: float = 0.5) -> float:
    """GB/s at which one thread adds up 256 KiB again and again: what its second-level cache delivers.

    Skipping zeros reads one float an activation and a multiply-add, so a rate of useful GFLOP/s moves twice as many
    GB/s; what is beyond this bound was read from the first level, or used more than once.

    >>> measured_bandwidth(seconds=0.01) > 0
    True
    """
    import numpy

    from optprune_fast.bench.numba_read import read  # it imports Numba

    times, best = 100, 0.0
    x = numpy.ones(CACHED_BYTES // 4, numpy.float32)
    read(x, 1)
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end or not best:
        read(x, times)
        best = max(best, times * x.nbytes / (time.perf_counter() - start) / 1e9)
    return best
