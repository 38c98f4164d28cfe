"""The demo's picture: accuracy against sparsity, and which weights were kept."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from optprune_fast.report.tables import Cell
from optprune_fast.runtime.errors import message
from optprune_fast.runtime.files import write_aside

# Told apart without colour too: each has its own marker.
STYLES = {"dense": ("#555555", "s"), "magnitude": ("#d1495b", "v"), "optimized": ("#1b6ca8", "o"),
          "random_small": ("#e0a030", "x")}
BINS = 60


@dataclass(frozen=True)
class Weights:
    """The weights of one pruned network.

    values:     float [n], all prunable weights
    kept:       bool [n]
    small:      bool [n], kept although magnitude pruning would drop them
    threshold:  the smallest magnitude that magnitude pruning keeps
    title:      which network it is
    """

    values: Tensor
    kept: Tensor
    small: Tensor
    threshold: float
    title: str


def draw(cells: Mapping[tuple[float, str], Cell], weights: Weights, path: Path) -> None:
    """Write the picture to `path`. Raises `ValueError` if matplotlib is not installed."""
    figures = _matplotlib()
    figure = figures.Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _accuracy(left, cells)
    _histogram(right, weights)
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=130)


def _matplotlib() -> Any:
    """`matplotlib.figure`: a Figure of its own needs no display, and leaves the caller's backend alone."""
    try:
        return importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ValueError(message("plot", "needs matplotlib, which is not installed",
                                 'pip install "optprune-fast[plot]"')) from error


def _accuracy(axes: Any, cells: Mapping[tuple[float, str], Cell]) -> None:
    rates = list(dict.fromkeys(rate for rate, _ in cells))
    names = list(dict.fromkeys(name for _, name in cells))
    for number, name in enumerate(names):
        method, _, core = name.partition(",")
        color, marker = STYLES[method]
        found = [(i, cells[rate, name]) for i, rate in enumerate(rates) if (rate, name) in cells]
        # Moved apart a little, so that the bars of one rate can be told apart.
        x = [i + 0.03 * (number - (len(names) - 1) / 2) for i, _ in found]
        axes.errorbar(x, [100 * cell.mean for _, cell in found], [100 * cell.spread for _, cell in found],
                      color=color, marker=marker, capsize=3, linestyle="--" if core else "-", label=name,
                      markerfacecolor="white" if core and marker != "x" else color)
    runs = max(cell.runs for cell in cells.values())
    axes.set(xlabel="sparsity", ylabel="test accuracy (%)", ylim=(0, 104),
             title=f"mean and standard deviation over {runs} seed{'s' if runs > 1 else ''}")
    axes.set_xticks(range(len(rates)), [f"{100 * rate:g} %" for rate in rates])
    axes.grid(axis="y", alpha=0.3)
    # Below: inside it would hide curves, wherever they fall.
    axes.legend(fontsize="small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.13))


def _histogram(axes: Any, weights: Weights) -> None:
    sizes = weights.values.abs()
    largest = float(sizes.max()) or 1.0
    edges = [largest * i / BINS for i in range(BINS + 1)]
    large = weights.kept & ~weights.small
    parts = [(sizes, "#d8d8d8", "all weights"), (sizes[large], "#1b6ca8", "kept, large"),
             (sizes[weights.small], "#f08a24", "kept, small")]
    for values, color, name in parts:
        axes.hist(values.tolist(), edges, color=color, label=f"{name}: {values.numel()}",
                  alpha=0.85 if name != "all weights" else 1.0)
    axes.axvline(weights.threshold, color="#d1495b", linestyle=":", label="threshold of magnitude pruning")
    axes.set(xlabel="|w|", ylabel="weights per bin", yscale="log", title=weights.title)
    axes.legend(fontsize="small")
