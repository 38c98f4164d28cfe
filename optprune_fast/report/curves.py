"""Drawings that the demo's picture and the report's figures share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optprune_fast.report.style import LARGE, REST, SMALL, STYLES, style
from optprune_fast.report.tables import Cell


def against_sparsity(axes: Any, cells: Mapping[tuple[float, str], Cell], scale: float = 1.0) -> None:
    """A line a method over the sparsities, evenly spaced, with the standard deviation over seeds as bars."""
    rates = list(dict.fromkeys(rate for rate, _ in cells))
    names = list(dict.fromkeys(name for _, name in cells))
    for number, name in enumerate(names):
        color, marker, line = style(name)
        found = [(i, cells[rate, name]) for i, rate in enumerate(rates) if (rate, name) in cells]
        # Moved apart a little, so that the bars of one rate can be told apart.
        x = [i + 0.03 * (number - (len(names) - 1) / 2) for i, _ in found]
        axes.errorbar(x, [scale * cell.mean for _, cell in found], [scale * cell.spread for _, cell in found],
                      color=color, marker=marker, capsize=3, linestyle=line, label=name,
                      markerfacecolor="white" if line == "--" and marker != "x" else color)
    axes.set_xlabel("sparsity")
    rate_ticks(axes, rates)


def rate_ticks(axes: Any, rates: Sequence[float]) -> None:
    axes.set_xticks(range(len(rates)), [f"{100 * rate:g} %" for rate in rates])
    axes.set_xlim(-0.4, len(rates) - 0.6)
    axes.grid(axis="x", visible=False)


def over_seeds(runs: int) -> str:
    return f"mean and standard deviation over {runs} seeds" if runs > 1 else "one seed"


def by_size(axes: Any, rows: Iterable[Mapping[str, Any]], threshold: float, counted: bool = True) -> None:
    """The rows of `layers.by_size` as a histogram, and the threshold of magnitude pruning as a line.

    counted: the labels say how many weights there are
    """
    found = list(rows)
    edges = [row["low"] for row in found] + [found[-1]["high"]]
    for column, color, name in (("weights", REST, "all weights"), ("kept_large", LARGE, "kept, large"),
                                ("kept_small", SMALL, "kept, small")):
        counts = [row[column] for row in found]
        axes.stairs(counts, edges, fill=True, color=color, label=f"{name}: {sum(counts)}" if counted else name,
                    alpha=1.0 if column == "weights" else 0.85)
    axes.axvline(threshold, color=STYLES["magnitude"][0], linestyle=":", label="threshold of magnitude pruning")
    axes.set(xlabel="|w|", ylabel="weights per bin", yscale="log", ylim=(0.7, None), xlim=(0, edges[-1]))
