"""The pictures beside docs/RESULTS.md: speed-up against density, cost against P and against B, time of a
top-k against n, sparse layers against dense ones."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SPEED_UP, COST, TOP_K = "speed_up_by_density.png", "cost_by_size.png", "top_k_by_size.png"
BREAK_EVEN = "sparse_layers.png"
Rows = Sequence[Mapping[str, Any]]


def draw(rows: Mapping[str, Rows], folder: Path) -> None:
    """The picture of each kind of rows that has one. Needs matplotlib, the extra `plot`."""
    if "masked_forward" in rows:
        speed_up(rows["masked_forward"], folder / SPEED_UP)
    if "cost" in rows:
        cost(rows["cost"], folder / COST)
    if "threshold" in rows:
        top_k(rows["threshold"], folder / TOP_K)
    if "deploy_latency" in rows:
        break_even(rows["deploy_latency"], folder / BREAK_EVEN)


def speed_up(rows: Rows, path: Path) -> None:
    """Times the best torch rival, on the least number of threads."""
    figure, axes = _figure(1)
    threads = min(row["threads"] for row in rows)
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["ours"] and row["threads"] == threads and row["ratio"]:
            name = f"{row['network']}, P = {row['P']}, B = {row['B']} ({row['rival']})"
            curves.setdefault(name, []).append((row["density"], row["ratio"]))
    for (name, points), marker in zip(sorted(curves.items()), "osv^Dx*P" * len(curves), strict=False):
        axes[0].plot(*zip(*sorted(points), strict=True), marker=marker, label=name)
    axes[0].axhline(1, color="#555555", linestyle=":")
    axes[0].set(xscale="log", yscale="log", xlabel="density", ylabel="times the best torch rival",
                title=f"independent random masks, {threads} thread{'s' if threads > 1 else ''}")
    axes[0].grid(alpha=0.3)
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=130)


def cost(rows: Rows, path: Path) -> None:
    figure, axes = _figure(2)
    for panel, over in zip(axes, "PB", strict=True):
        for row in rows:
            if row["over"] == over:
                end = max(row["at"])
                name = f"{row['network']}, R² = {row['r2']:.4f}"
                [points] = panel.plot(row["at"], [1000 * s for s in row["median_s"]], "o", label=name)
                panel.plot([0, end], [1000 * row["intercept_s"], 1000 * (row["intercept_s"] + end * row["slope_s"])],
                           color=points.get_color())
        panel.set(xlabel=over, ylabel="ms", title=f"cost against {over}")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    figure.savefig(path, dpi=130)


def top_k(rows: Rows, path: Path) -> None:
    """Nanoseconds a weight against n, for each way and for a read."""
    figure, axes = _figure(1)
    own = [row for row in rows if row["case"] == "float32"]
    curves = {way: [(row["n"], row["median_s"]) for row in own if row["way"] == way]
              for way in dict.fromkeys(row["way"] for row in own)}
    curves["a read"] = [(row["n"], row["floor_s"]) for row in own if row["way"] == "native"]
    for (name, points), marker in zip(curves.items(), "osv^Dx*P" * len(curves), strict=False):
        x, y = zip(*((n, 1e9 * s / n) for n, s in sorted(points)), strict=True)
        axes[0].plot(x, y, marker=marker, label=name, linestyle=":" if name == "a read" else "-")
    axes[0].set(xscale="log", yscale="log", xlabel="weights", ylabel="ns a weight", title="the top 10 %, one thread")
    axes[0].grid(alpha=0.3)
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=130)


def break_even(rows: Rows, path: Path) -> None:
    """Times as fast as dense torch against sparsity, the largest layer, warm: a panel a processor, dense at 1."""
    processors = list(dict.fromkeys(row["processor"] for row in rows))
    figure, axes = _figure(len(processors))
    for panel, processor in zip(axes, processors, strict=True):
        here = [row for row in rows if row["processor"] == processor and row["cache"] == "warm"]
        largest = max((row["layer"] for row in here), key=lambda name: [int(side) for side in name.split("x")])
        for batch, color in zip(sorted({row["batch"] for row in here}), ("C0", "C1", "C2", "C3", "C4", "C5") * 9,
                                strict=False):
            for rival, line in (("index", "o-"), ("torch CSR", ".:")):
                points = sorted((row["sparsity"], row["ratio"]) for row in here if row["layer"] == largest
                                and row["batch"] == batch and row["rival"] == rival)
                if points:
                    panel.plot(*zip(*points, strict=True), line, color=color, label=f"{rival}, batch {batch}")
        panel.axhline(1, color="#555555", linewidth=0.8)
        panel.set(yscale="log", xlabel="sparsity", ylabel="times as fast as dense torch",
                  title=f"{largest}, {processor}")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    figure.savefig(path, dpi=130)


def _figure(panels: int) -> tuple[Any, list[Any]]:
    """A figure of its own needs no display."""
    figure = importlib.import_module("matplotlib.figure").Figure(figsize=(6.4 * panels, 4.6), layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])
