"""How long a whole pruned network takes: run as one compiled program, and layer by layer, beside dense torch.

    python -m benchmarks.deploy.networks [--sparsities 0.9] [--batches 1 64] [--scopes uniform] [--quick]

ResNet-20 of 32x32 pictures, random weights, one thread. Masks by magnitude: uniform (every layer keeps the same share)
and global, which with these weights keeps the more of a layer the fewer inputs it has, and thus the layers whose
weights serve most pixels. Dense torch runs the same weights, zeros and all. In turns, each answer checked against
float64 before it is timed; the figure is the lowest CPU time of a process.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import optprune_fast as opf
from benchmarks.deploy.latency import measured
from benchmarks.results import ASIDE, write
from optprune_fast.bench.machine import describe_machine, on_threads
from optprune_fast.bench.table import markdown
from optprune_fast.deploy.network import compile_network
from optprune_fast.deploy.report import explain
from optprune_fast.models import ResNet20

SPARSITIES = (0.5, 0.8, 0.9, 0.95)
BATCHES = (1, 64)
SCOPES = ("uniform", "global")
OURS = ("whole network", "layer by layer")
Run = Callable[[Tensor], Tensor]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sparsities", nargs="+", type=float, default=SPARSITIES)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--scopes", nargs="+", choices=SCOPES, default=SCOPES)
    parser.add_argument("--rounds", type=int, default=30, help="calls of each rival, at most")
    parser.add_argument("--seconds", type=float, default=3.0, help="after so many a rival stops, with three calls")
    parser.add_argument("--quick", action="store_true", help="a narrow network, no torch.compile: shows that it runs")
    parser.add_argument("--out", default="deploy_networks", help="name of the file, without .json")
    options = parser.parse_args(arguments)
    if options.quick:
        options.sparsities, options.batches, options.scopes, options.rounds = (0.9,), (1, 9), ("uniform",), 3
    return options


def rivals_of(dense: nn.Module, last: nn.Module, quick: bool) -> dict[str, Run]:
    """Dense torch, in both layouts of memory; what is compiled reads the weights that the modules have."""
    out: dict[str, Run] = {"eager": dense, "channels-last": _channels_last(last)}
    if not quick:
        out["torch.compile"] = torch.compile(dense, dynamic=False)
        out["torch.compile, channels-last"] = _channels_last(torch.compile(last, dynamic=False))
    return out


def _channels_last(net: Any) -> Run:
    return lambda x: net(x.contiguous(memory_format=torch.channels_last))


def prune(net: nn.Module, model: nn.Module, mask: opf.PackedMasks) -> None:
    """Give a network the model's weights, zeros where the mask has them."""
    kept = mask.to_dense()
    net.load_state_dict({name: tensor * kept[name][0] if name in kept else tensor
                         for name, tensor in model.state_dict().items()})


def rows_of(options: argparse.Namespace, say: Any) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    model = ResNet20(width=4 if options.quick else 16).eval()
    dense = copy.deepcopy(model)
    last: nn.Module = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rivals, rows = rivals_of(dense, last, options.quick), []
    for scope in options.scopes:
        for sparsity in options.sparsities:
            mask = opf.magnitude(model, sparsity=sparsity, scope=scope).mask
            for net in (dense, last):
                prune(net, model, mask)
            sparse = opf.convert(model, mask, prefer="memory")
            ours = {OURS[0]: compile_network(sparse, torch.zeros(1, 3, 32, 32)), OURS[1]: sparse}
            report = {name: explain(net) for name, net in ours.items()}
            for batch in options.batches:
                say(f"{scope} {sparsity:g} {batch}")
                times = cell({**ours, **rivals}, dense, batch, options)
                best = min(seconds for name, seconds in times.items() if name not in OURS)
                held = report[OURS[0]].dense_bytes
                rows += [{"scope": scope, "sparsity": sparsity, "batch": batch, "rival": name, "seconds": seconds,
                          "ratio": best / seconds, "nbytes": report[name].nbytes if name in report else held,
                          "dense_bytes": held} for name, seconds in times.items()]
    return rows


def cell(rivals: dict[str, Run], dense: nn.Module, batch: int, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of each."""
    x = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad(), on_threads(1):
        exact = copy.deepcopy(dense).double()(x.double())
        times: dict[str, list[float]] = {name: [] for name in rivals}
        for name, run in rivals.items():
            error = float((run(x).double() - exact).abs().max() / exact.abs().max())
            if error > 1e-5:
                raise RuntimeError(f"{name} is wrong by {error:.2g}")
        for _ in range(3):  # in turns
            for name, run in rivals.items():
                times[name] += measured(lambda run=run: run(x), options.rounds // 3 or 1, options.seconds / 3, None)
    return {name: min(seconds) for name, seconds in times.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """Milliseconds, times as fast as the best dense way, and the weights' share of the dense ones' memory."""
    sparsities = sorted({row["sparsity"] for row in rows})
    at = {(row["scope"], row["batch"], row["rival"], row["sparsity"]): row for row in rows}
    cells = []
    for scope, batch, rival in dict.fromkeys(key[:3] for key in at):
        found = [at.get((scope, batch, rival, sparsity)) for sparsity in sparsities]
        texts = [f"{1e3 * row['seconds']:.3g}" + (f" ({row['ratio']:.1f}×)" if rival in OURS else "") if row else ""
                 for row in found]
        cells.append([scope, str(batch), f"**{rival}**" if rival == OURS[0] else rival, *texts])
        if rival in OURS and batch == max(key[1] for key in at):
            cells.append([scope, "", f"weights of {rival}",
                          *(f"{row['nbytes'] / row['dense_bytes']:.3f}" if row else "" for row in found)])
    return markdown(["mask", "batch", "ms", *(f"{s:.0%}" for s in sparsities)], cells)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    machine = describe_machine()  # the load before, which is others' work
    rows = rows_of(options, lambda text: print(text, file=sys.stderr, flush=True))
    path = write(options.out, "deploy_networks", rows, machine, vars(options), ASIDE if options.quick else None)
    print(table(rows))
    print(f"\ntimes as fast as the best dense way of torch in brackets. {path}")


if __name__ == "__main__":
    main()
