"""How long a whole pruned network takes: run as one compiled program, and layer by layer, beside dense torch.

    python -m benchmarks.deploy.networks [--networks minilm] [--sparsities 0.9] [--batches 1 64] [--scopes uniform]

ResNet-20 of 32x32 pictures, ResNet-50 and EfficientNet-Lite0 of 224x224 and the encoder of MiniLM on 128 tokens, random
weights, one thread. Masks by magnitude: uniform (every layer keeps the same share) and global, which with these weights
keeps the more of a layer the fewer inputs it has, and thus the layers whose weights serve most pixels. Dense torch runs
the same weights, zeros and all. In turns, each answer checked against float64 before it is timed; the figure is the
lowest CPU time of a process.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import optprune_fast as opf
from benchmarks.deploy.architectures import EfficientNetLite0, MiniLM, ResNet50
from benchmarks.deploy.latency import measured
from benchmarks.store import ASIDE, write
from optprune_fast.bench.machine import describe_machine, on_threads
from optprune_fast.bench.table import markdown
from optprune_fast.deploy.network import compile_network
from optprune_fast.deploy.report import explain
from optprune_fast.masks.apply import zero_pruned
from optprune_fast.models import ResNet20

SPARSITIES = (0.5, 0.8, 0.9, 0.95)
BATCHES = (1, 64)
SCOPES = ("uniform", "global")
OURS = ("whole network", "layer by layer", "layer by layer, fastest")
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Network:
    """shape: of the input of one sample"""

    title: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


NETWORKS = {
    "resnet20": Network("ResNet-20", ResNet20, (3, 32, 32)),
    "resnet50": Network("ResNet-50", ResNet50, (3, 224, 224)),
    "efficientnet_lite0": Network("EfficientNet-Lite0", EfficientNetLite0, (3, 224, 224)),
    "minilm": Network("MiniLM", MiniLM, (128, 384)),
    "narrow": Network("a narrow ResNet-20", partial(ResNet20, width=4), (3, 32, 32)),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=("resnet20",))
    parser.add_argument("--sparsities", nargs="+", type=float, default=SPARSITIES)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--scopes", nargs="+", choices=SCOPES, default=SCOPES)
    parser.add_argument("--rounds", type=int, default=30, help="calls of each rival, at most")
    parser.add_argument("--seconds", type=float, default=3.0, help="after so many a rival stops, with three calls")
    parser.add_argument("--quick", action="store_true", help="a narrow network, no torch.compile: shows that it runs")
    parser.add_argument("--out", default="deploy_networks", help="name of the file, without .json")
    options = parser.parse_args(arguments)
    if options.quick:
        options.networks, options.sparsities, options.batches, options.scopes, options.rounds = (
            ("narrow",), (0.9,), (1, 9), ("uniform",), 3)
    return options


def rivals_of(dense: nn.Module, last: nn.Module, pictures: bool, quick: bool) -> dict[str, Run]:
    """Dense torch, for pictures in both layouts of memory; what is compiled reads the weights that the modules have."""
    compiled = not quick
    out: dict[str, Run] = {"eager": dense}
    if pictures:
        out["channels-last"] = _channels_last(last)
    if compiled:
        out["torch.compile"] = torch.compile(dense, dynamic=False)
    if pictures and compiled:
        out["torch.compile, channels-last"] = _channels_last(torch.compile(last, dynamic=False))
    return out


def _channels_last(net: Any) -> Run:
    return lambda x: net(x.contiguous(memory_format=torch.channels_last))


@torch.no_grad()
def settle(model: nn.Module, mask: opf.PackedMasks, shape: tuple[int, ...]) -> None:
    """Give batch normalisation the statistics of the pruned network: signals fade in one of random weights otherwise,
    and a check of its answers would check little."""
    pruned = copy.deepcopy(model)
    zero_pruned(pruned, mask)
    for module in pruned.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of what it sees, and of nothing before
            module.reset_running_stats()
    pruned.train()(torch.randn(4, *shape, generator=torch.Generator().manual_seed(0)))
    for buffer, seen in zip(model.buffers(), pruned.buffers(), strict=True):
        buffer.copy_(seen)


def prune(net: nn.Module, model: nn.Module, mask: opf.PackedMasks) -> None:
    """Give a network the model's weights, zeros where the mask has them."""
    net.load_state_dict(model.state_dict())
    zero_pruned(net, mask)


def rows_of(name: str, options: argparse.Namespace, say: Any) -> list[dict[str, Any]]:
    network = NETWORKS[name]
    torch.manual_seed(1)
    model = network.build().eval()
    dense = copy.deepcopy(model)
    last: nn.Module = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rivals, rows = rivals_of(dense, last, len(network.shape) == 3, options.quick), []
    for scope in options.scopes:
        for sparsity in options.sparsities:
            mask = opf.magnitude(model, sparsity=sparsity, scope=scope).mask
            settle(model, mask, network.shape)
            for net in (dense, last):
                prune(net, model, mask)
            sparse = opf.convert(model, mask, prefer="memory")
            whole = compile_network(sparse, torch.zeros(1, *network.shape))
            ours = dict(zip(OURS, (whole, sparse, opf.convert(model, mask, prefer="speed")), strict=True))
            report = {rival: explain(net) for rival, net in ours.items()}
            for batch in options.batches:
                say(f"{name} {scope} {sparsity:g} {batch}")
                times = cell({**ours, **rivals}, dense, (batch, *network.shape), options)
                best = min(seconds for rival, seconds in times.items() if rival not in OURS)
                held = report[OURS[0]].dense_bytes
                rows += [{"network": name, "scope": scope, "sparsity": sparsity, "batch": batch, "rival": rival,
                          "seconds": seconds, "ratio": best / seconds, "dense_bytes": held,
                          "nbytes": report[rival].nbytes if rival in report else held}
                         for rival, seconds in times.items()]
    return rows


def cell(rivals: dict[str, Run], dense: nn.Module, shape: tuple[int, ...], options: argparse.Namespace
         ) -> dict[str, float]:
    """Seconds of each."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(shape[0]))
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
    """For each network milliseconds, times as fast as the best dense way, and the weights' share of dense memory."""
    return "\n\n".join(_table(NETWORKS[name].title, [row for row in rows if name in named([row])])
                       for name in named(rows))


def named(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Which networks the rows are of; the oldest files say none and have but one."""
    return tuple(dict.fromkeys(row.get("network", "resnet20") for row in rows))


def _table(title: str, rows: list[dict[str, Any]]) -> str:
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
    return markdown([f"{title}, mask", "batch", "ms", *(f"{s:.0%}" for s in sparsities)], cells)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    machine = describe_machine()  # the load before, which is others' work
    rows = [row for name in options.networks
            for row in rows_of(name, options, lambda text: print(text, file=sys.stderr, flush=True))]
    path = write(options.out, "deploy_networks", rows, machine, vars(options), ASIDE if options.quick else None)
    print(table(rows))
    print(f"\ntimes as fast as the best dense way of torch in brackets. {path}")


if __name__ == "__main__":
    main()
