"""How long a pruned linear layer takes: ours beside dense torch, torch CSR, SciPy CSR and dense bfloat16.

    python -m benchmarks.deploy.latency [--layers 4096x4096] [--sparsities 0.9] [--batches 1 16] [--quick]

In turns, each answer checked before it is timed. The figure is the lowest CPU time of a process on one thread, so that
a loaded machine disturbs little. Warm: called again and again; cold: the last-level cache is overwritten before each
call.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.deploy.task import LAYERS, Layer, layer
from benchmarks.store import ASIDE, write
from optprune_fast.bench.machine import describe_machine, on_threads
from optprune_fast.bench.table import markdown

SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
BATCHES = (1, 4, 16, 64, 256, 1024)
EVICTED = 96 << 20  # bytes; several times a last-level cache would cost more than the calls
CACHES = ("warm", "cold")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=["784x300", "1024x1024", "4096x4096"])
    parser.add_argument("--sparsities", nargs="+", type=float, default=SPARSITIES)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--without", nargs="+", default=[], help="rivals to leave out")
    parser.add_argument("--rounds", type=int, default=15, help="calls of each rival, at most")
    parser.add_argument("--seconds", type=float, default=1.0, help="after so many a rival stops, with three calls")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--quick", action="store_true", help="one layer, few sizes, no cold calls: shows that it runs")
    parser.add_argument("--out", default="deploy_latency", help="name of the file, without .json")
    options = parser.parse_args(arguments)
    if options.quick:
        options.layers, options.sparsities, options.batches, options.rounds = ["784x300"], (0.9,), (1, 16), 3
    return options


def measured(call: Any, rounds: int, seconds: float, evict: Tensor | None) -> list[float]:
    """CPU seconds of each call; short ones are repeated until a clock tells them apart."""
    times: list[float] = []
    repeats = 1
    while len(times) < rounds and (len(times) < 3 or sum(times) * repeats < seconds):
        if evict is not None:
            evict.add_(1)
        start = time.process_time()
        for _ in range(repeats):
            call()
        spent = (time.process_time() - start) / repeats
        if evict is None and not times and spent < 1e-3:
            repeats = max(2, int(2e-3 / max(spent, 1e-6)))
        times.append(spent)
    return times


def rows_of(options: argparse.Namespace, say: Any) -> list[dict[str, Any]]:
    rows = []
    evict = None if options.quick else torch.zeros(EVICTED // 4)
    for name in options.layers:
        for sparsity in options.sparsities:
            made = layer(LAYERS[name], sparsity, getattr(torch, options.dtype))
            for batch in options.batches:
                say(f"{name} {sparsity:g} {batch}")
                rows += cell(made, batch, options, evict, {"layer": name, "sparsity": sparsity, "batch": batch,
                                                           "dtype": options.dtype})
    return rows


def cell(made: Layer, batch: int, options: argparse.Namespace, evict: Tensor | None, where: dict[str, Any]
         ) -> list[dict[str, Any]]:
    x = torch.randn(batch, made.weight.shape[1], generator=torch.Generator().manual_seed(batch)).to(made.weight.dtype)
    rivals = {name: run for name, run in made.rivals.items() if name not in options.without}
    few = slice(0, 16)  # samples that are compared
    exact = x[few].double() @ made.weight.double().T
    rows: list[dict[str, Any]] = []
    with torch.no_grad(), on_threads(1):
        for name, run in rivals.items():
            error = float((run(x)[few].double() - exact).abs().max() / exact.abs().max())
            if error > (1e-5 if made.weight.dtype == torch.float32 and "bfloat16" not in name else 2e-2):
                raise RuntimeError(f"{name} is wrong by {error:.2g} at {where}")
        for cache in CACHES[: 1 if evict is None else 2]:
            times: dict[str, list[float]] = {name: [] for name in rivals}
            for _ in range(3):  # in turns
                for name, run in rivals.items():
                    times[name] += measured(lambda run=run: run(x), options.rounds // 3 or 1, options.seconds / 3,
                                            evict if cache == "cold" else None)
            rows += [{**where, "cache": cache, "rival": name, "seconds": min(seconds), "calls": len(seconds),
                      "nbytes": made.nbytes[name], "dense_bytes": made.weight.nbytes}
                     for name, seconds in times.items()]
    dense = {row["cache"]: row["seconds"] for row in rows if row["rival"] == "dense"}
    return [{**row, "ratio": dense[row["cache"]] / row["seconds"]} for row in rows]


def table(rows: list[dict[str, Any]], cache: str = "warm") -> str:
    """Times faster than dense torch: a row a layer, batch and way; a column a sparsity."""
    sparsities = sorted({row["sparsity"] for row in rows})
    keys = dict.fromkeys((row["layer"], row["batch"], row["rival"]) for row in rows if row["cache"] == cache)
    at = {(row["layer"], row["batch"], row["rival"], row["sparsity"]): row for row in rows if row["cache"] == cache}
    cells = []
    for key in keys:
        found = [at.get((*key, s)) for s in sparsities]
        if key[2] == "dense":
            texts = [f"{1e3 * row['seconds']:.3g} ms" if row else "" for row in found]
        else:
            texts = [f"{row['ratio']:.2f}" if row else "" for row in found]
        cells.append([key[0], str(key[1]), f"**{key[2]}**" if key[2] in ("index", "bitmask") else key[2], *texts])
    return markdown(["layer", "batch", "way", *(f"{s:.0%}" for s in sparsities)], cells)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    machine = describe_machine()  # the load before, which is others' work
    rows = rows_of(options, lambda text: print(text, file=sys.stderr, flush=True))
    path = write(options.out, "deploy_latency", rows, machine, vars(options), ASIDE if options.quick else None)
    print(table(rows))
    print(f"\ntimes faster than dense torch. {path}")


if __name__ == "__main__":
    main()
