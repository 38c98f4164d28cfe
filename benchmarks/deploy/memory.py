"""How much memory pruned layers take: the tensors of one layer, and the process that loads a network from a file.

    python -m benchmarks.deploy.memory [--sparsities 0.5 0.9] [--quick]

A network is loaded under the meta device in a fresh process, whose resident memory is read before and after, and whose
peak is read in between: "peak" is what loading took at its highest point, the loaded weights included.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

import optprune_fast as opf
from benchmarks.store import ASIDE, write
from optprune_fast.bench.machine import describe_machine
from optprune_fast.bench.memory import CLEAR, STATUS
from optprune_fast.bench.table import markdown
from optprune_fast.deploy.report import explain
from optprune_fast.runtime.memory import give_back

SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98)
DTYPES = ("float32", "bfloat16", "float16")
LAYERS, WIDTH = 3, 4096  # 192 MiB in float32


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sparsities", nargs="+", type=float, default=SPARSITIES)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--quick", action="store_true", help="a small network: shows that it runs")
    parser.add_argument("--out", default="deploy_memory", help="name of the file, without .json")
    options = parser.parse_args(arguments)
    if options.quick:
        options.sparsities, options.dtypes = (0.9,), ("float32",)
    return options


def network(width: int, dtype: str) -> nn.Module:
    return nn.Sequential(*(nn.Linear(width, width, bias=False, dtype=getattr(torch, dtype)) for _ in range(LAYERS)))


def kilobytes(name: str) -> int:
    return int(next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:")).split()[1])


def settle() -> None:
    """Give back what is free, so that it is not counted."""
    gc.collect()
    give_back()


def loaded(path: str, width: int, dtype: str, prefer: str) -> dict[str, Any]:
    """Runs in a fresh process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:  # the libraries' own memory comes first
        small = network(512, dtype)
        opf.export(small, opf.magnitude(small, sparsity=0.5).mask, Path(folder) / "small.safetensors")
        net = opf.load(Path(folder) / "small.safetensors", lambda: network(512, dtype), prefer=prefer)
        net(torch.ones(1, 512, dtype=getattr(torch, dtype)))
    del small, net
    settle()
    before = kilobytes("VmRSS")
    CLEAR.write_text("5")
    net = opf.load(path, lambda: network(width, dtype), prefer=prefer)
    peak = kilobytes("VmHWM")
    settle()
    after = kilobytes("VmRSS")
    with torch.no_grad():
        net(torch.ones(1, width, dtype=getattr(torch, dtype)))
    report = explain(net)
    return {"tensor_bytes": report.nbytes, "dense_bytes": report.dense_bytes, "resident_bytes": (after - before) * 1024,
            "peak_bytes": (peak - before) * 1024, "formats": sorted({row.format for row in report.rows})}


def in_fresh_process(path: str, width: int, dtype: str) -> dict[str, Any]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(loaded, path, width, dtype, "memory").result()


def bar(found: dict[str, Any]) -> float:
    """Bytes that loading may take: 1.15 times what is loaded, and one of the layers, dense."""
    return float(1.15 * found["tensor_bytes"] + found["dense_bytes"] / LAYERS)


def rows_of(options: argparse.Namespace, say: Any) -> list[dict[str, Any]]:
    rows = []
    width = 256 if options.quick else WIDTH
    for dtype in options.dtypes:
        for sparsity in options.sparsities:
            say(f"{dtype} {sparsity:g}")
            torch.manual_seed(1)
            model = network(width, dtype)
            with tempfile.TemporaryDirectory() as folder:
                path = str(Path(folder) / "net.safetensors")
                written = opf.export(model, opf.magnitude(model, sparsity=sparsity).mask, path)
                found = in_fresh_process(path, width, dtype)
            rows.append({"dtype": dtype, "sparsity": sparsity, "file_bytes": written.file_bytes, **found})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Shares of the dense weights of the same type; the peak as a multiple of the compressed size and of the bar."""
    cells = [[row["dtype"], f"{row['sparsity']:.0%}", *(f"{row[key] / row['dense_bytes']:.3f}" for key in (
        "tensor_bytes", "resident_bytes", "file_bytes")), f"{row['peak_bytes'] / row['tensor_bytes']:.2f}",
              f"{row['peak_bytes'] / bar(row):.2f}"] for row in rows]
    return markdown(["type", "sparsity", "tensors", "process", "file", "peak, × compressed", "× bar"], cells)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    machine = describe_machine()
    rows = rows_of(options, lambda text: print(text, file=sys.stderr, flush=True))
    path = write(options.out, "deploy_memory", rows, machine, vars(options), ASIDE if options.quick else None)
    print(table(rows))
    print(f"\nshares of the dense weights. {path}")


if __name__ == "__main__":
    main()
