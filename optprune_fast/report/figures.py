"""The figures of a report, each drawn from the tables of its document."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from optprune_fast.report import curves
from optprune_fast.report.style import INK, LARGE, MUTED, PARTS, REST, SMALL, style
from optprune_fast.report.tables import Cell
from optprune_fast.report.verdict import best_method

Document = dict[str, Any]
Rows = list[dict[str, Any]]
Draw = Callable[[Any, Document], Any]
MAGNITUDE = style("magnitude")[0]
WIDTH, COLUMNS = 10.0, 3


def accuracy(figures: Any, made: Document) -> Any:
    """Accuracy, or loss, against sparsity for every method."""
    part, quantity = made["headline"]["part"], made["headline"]["quantity"]
    rows = [row for row in made["curves"] if (row["part"], row["quantity"]) == (part, quantity)]
    cells = {(row["sparsity"], row["method"]): Cell(row["mean"], row["spread"], row["runs"]) for row in rows}
    if len(made["sparsities"]) == 1:
        return _one_rate(figures, made, cells)
    figure = figures.Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    curves.against_sparsity(axes, cells, 100 if quantity == "accuracy" else 1)
    if quantity == "accuracy":
        axes.set(ylabel=f"{part} accuracy (%)", ylim=(0, 104))
    else:
        axes.set(ylabel=f"{part} loss, {made['objective']}", ylim=(0, None))
    axes.set_title(curves.over_seeds(max(row["runs"] for row in rows)))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center")
    return figure


def _one_rate(figures: Any, made: Document, cells: dict[tuple[float, str], Cell]) -> Any:
    """A bar a method, where one sparsity makes no curve."""
    part, accurate = made["headline"]["part"], made["headline"]["quantity"] == "accuracy"
    scale = 100 if accurate else 1
    figure = figures.Figure(figsize=(WIDTH, 1.0 + 0.5 * len(cells)), layout="constrained")
    axes = figure.subplots()
    for y, ((_, name), cell) in enumerate(cells.items()):
        axes.barh(y, scale * cell.mean, height=0.6, color=style(name)[0],
                  xerr=scale * cell.spread if cell.runs > 1 else None, ecolor=INK, capsize=3)
        axes.annotate(str(cell) if accurate else cell.plain(), (scale * (cell.mean + cell.spread), y), (6, 0),
                      textcoords="offset points", va="center", fontsize="small")
    axes.set_yticks(range(len(cells)), [name for _, name in cells])
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.15)
    seeds = curves.over_seeds(max(cell.runs for cell in cells.values()))
    axes.set(xlabel=f"{part} accuracy (%)" if accurate else f"{part} loss, {made['objective']}",
             title=f"{100 * made['sparsities'][0]:g} % sparsity, {seeds}")
    return figure


def convergence(figures: Any, made: Document) -> Any:
    """The best calibration loss, and that mask's validation loss, against evaluations and against seconds."""
    rates = made["sparsities"]
    figure = figures.Figure(figsize=(WIDTH, 2.5 * len(rates) + 0.7), layout="constrained")
    names: dict[str, Any] = {}
    for pair, rate in zip(figure.subplots(len(rates), 2, squeeze=False, sharey="row"), rates, strict=True):
        runs = [run for run in made["runs"] if run["sparsity"] == rate]
        for axes, x in zip(pair, ("evaluations", "seconds"), strict=True):
            for run in runs:
                rows = [row for row in made["convergence"] if row["run"] == run["run"]]
                color, _, line = style(run["method"])
                for column, width, alpha in (("fitness", 1.6, 0.95), ("validation", 0.9, 0.6)):
                    drawn, = axes.plot([row[x] for row in rows] + [run[x]],
                                       [_gap(row[column]) for row in [*rows, *rows[-1:]]], color=color, linewidth=width,
                                       linestyle=line, alpha=alpha, drawstyle="steps-post")
                    names.setdefault(f"{run['method']}, {'calibration' if column == 'fitness' else column}", drawn)
                # The mask that was chosen: the lowest validation loss of all.
                judged = [row for row in rows if row["validation"] is not None]
                for row in sorted(judged, key=lambda row: row["validation"])[:1]:
                    axes.plot(row[x], row["validation"], color=color, marker="o", markersize=4)
            axes.set(xlabel=x, xlim=(0, None), title=f"{100 * rate:g} % sparsity" if x == "evaluations" else "")
        pair[0].set_ylabel(f"loss, {made['objective']}")
    figure.legend(names.values(), names.keys(), loc="outside lower center", ncols=2)
    return figure


def overfitting(figures: Any, made: Document) -> Any:
    """Loss on the samples of the search beside that on others: of the best method, and as the search went on."""
    figure = figures.Figure(figsize=(WIDTH, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    rates = made["sparsities"]
    best = {rate: best_method(made, rate) for rate in rates}
    found = {(row["sparsity"], row["method"], row["part"]): row["mean"] for row in made["curves"]
             if row["quantity"] == "loss"}
    for part, (line, marker) in PARTS.items():
        points = [(i, found[rate, best[rate], part]) for i, rate in enumerate(rates)
                  if (rate, best[rate], part) in found]
        if points:
            left.plot(*zip(*points, strict=True), color=LARGE, linestyle=line, marker=marker, label=part,
                      markerfacecolor=LARGE if part == "calibration" else "white")
    left.set(xlabel="sparsity", ylabel=f"loss, {made['objective']}", ylim=(0, None), title="loss of the chosen mask")
    curves.rate_ticks(left, rates)
    left.legend()
    lines = itertools.cycle(("-", "--", "-.", ":"))
    for number, rate in zip(made["shown"], rates, strict=True):
        rows = [row for row in made["convergence"] if row["run"] == number]
        right.plot([row["evaluations"] for row in rows],
                   [_gap(row["validation"]) - _gap(row["fitness"]) for row in rows],
                   label=f"{100 * rate:g} %", drawstyle="steps-post", color=LARGE, linestyle=next(lines),
                   alpha=0.35 + 0.65 * (rates.index(rate) + 1) / len(rates))
    right.axhline(0, color=MUTED, linewidth=0.8)
    right.set(xlabel="evaluations", ylabel="validation − calibration", title="how it grew, one run a sparsity")
    right.legend()
    return figure


def histogram(figures: Any, made: Document) -> Any:
    """|w| of all weights and of those kept, small ones marked."""
    there = [row["run"] for row in made["thresholds"]]
    figure, panels = _panels(figures, made, there, 3.2, share=True)
    for axes, row in zip(panels, made["thresholds"], strict=True):
        rows, run = [b for b in made["histogram"] if b["run"] == row["run"]], made["runs"][row["run"]]
        curves.by_size(axes, rows, row["threshold"], counted=False)
        axes.set_title(f"{axes.get_title(loc='left')}: {run['kept_small']} of {run['budget']} small")
    for axes in panels:
        axes.label_outer(remove_inner_ticks=False)
        axes.set_xlabel("|w|")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def densities(figures: Any, made: Document) -> Any:
    """The share kept of each layer, by the mask and by magnitude pruning."""
    figure, panels = _panels(figures, made, made["shown"], 0.9 + 0.32 * _depth(made), share=True)
    for axes, number in zip(panels, made["shown"], strict=True):
        rows = [row for row in made["layers"] if row["run"] == number]
        y = range(len(rows))
        ours, large = ([100 * row[column] for row in rows] for column in ("density", "density_magnitude"))
        axes.hlines(y, ours, large, color=REST, linewidth=3)
        axes.plot(large, y, linestyle="", marker="v", color=MAGNITUDE, label="magnitude")
        axes.plot(ours, y, linestyle="", marker="o", color=LARGE, label="optimized")
        _layer_ticks(axes, rows)
        axes.set(xlabel="kept (%)", xlim=(0, 1.08 * max(1e-9, *ours, *large)))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def small(figures: Any, made: Document) -> Any:
    """How many of the kept weights are small, layer by layer."""
    figure, panels = _panels(figures, made, made["shown"], 0.9 + 0.32 * _depth(made), share=True)
    for axes, number in zip(panels, made["shown"], strict=True):
        rows = [row for row in made["layers"] if row["run"] == number]
        parts = [100 * row["kept_small"] / max(1, row["kept"]) for row in rows]
        axes.barh(range(len(rows)), [100 if row["kept"] else 0 for row in rows], color=LARGE, height=0.62,
                  label="kept, large")
        axes.barh(range(len(rows)), parts, color=SMALL, height=0.62, label="kept, small")
        for y, row in enumerate(rows):
            axes.text(103, y, f"{row['kept_small']} of {row['kept']}", va="center", fontsize="small", color=MUTED)
        _layer_ticks(axes, rows)
        axes.set(xlabel="of the kept weights (%)", xlim=(0, 150), xticks=range(0, 101, 25))
        axes.spines["bottom"].set_bounds(0, 100)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def swaps(figures: Any, made: Document) -> Any:
    """The kept small weights that gain most, at the highest sparsity that has any."""
    rows = last_swaps(made)
    figure = figures.Figure(figsize=(WIDTH, 1.0 + 0.27 * len(rows)), layout="constrained")
    axes = figure.subplots()
    y = range(len(rows))
    axes.barh(y, [_gap(row["gain"]) for row in rows], color=SMALL, height=0.62,
              label="exchanged for the largest dropped weight")
    axes.plot([_gap(row["gain_alone"]) for row in rows], y, linestyle="", marker="d", color=LARGE, label="only dropped")
    if rows[0]["gain_validation"] is not None:
        axes.plot([_gap(row["gain_validation"]) for row in rows], y, linestyle="", marker="|", markersize=11,
                  markeredgewidth=2, color=MUTED, label="exchanged, on validation samples")
    axes.set_yticks(y, [f"{_short(row['layer'])} {row['position']}" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set(xlabel="loss without the weight − loss of the mask")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def last_swaps(made: Document) -> Rows:
    """The swaps of the run with the highest sparsity that has any."""
    last = max((row["run"] for row in made["swaps"]), default=-1)
    return [row for row in made["swaps"] if row["run"] == last]


def _panels(figures: Any, made: Document, runs: list[int], height: float, share: bool = False) -> tuple[Any, Any]:
    """A figure with one titled panel a run."""
    columns = min(COLUMNS, len(runs))
    rows = -(-len(runs) // columns)
    figure = figures.Figure(figsize=(WIDTH, height * rows + 0.5), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=share).flat)
    for axes in panels[len(runs):]:
        axes.remove()
    for axes, number in zip(panels, runs, strict=True):
        axes.set_title(f"{100 * made['runs'][number]['sparsity']:g} % sparsity")
    return figure, panels[:len(runs)]


def _layer_ticks(axes: Any, rows: Rows) -> None:
    axes.set_yticks(range(len(rows)), [_short(row["layer"]) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def _short(layer: str) -> str:
    return layer.removesuffix(".weight")


def _depth(made: Document) -> int:
    return len({row["layer"] for row in made["layers"]})


def _gap(value: float | None) -> float:
    """What JSON could not say leaves a gap in a line."""
    return float("nan") if value is None else value
