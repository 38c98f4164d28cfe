"""Runs repeated over seeds, summed up."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One method at one sparsity: mean and sample standard deviation over `runs` seeds (0 for a single one)."""

    mean: float
    spread: float
    runs: int

    def __str__(self) -> str:
        return f"{self.mean:.2%}" if self.runs == 1 else f"{100 * self.mean:.2f} ± {100 * self.spread:.2f} %"

    def plain(self) -> str:
        """The numbers as they are, where they are no fractions."""
        return f"{self.mean:.4f}" if self.runs == 1 else f"{self.mean:.4f} ± {self.spread:.4f}"


def summarize(rows: Iterable[Mapping[str, Any]], value: str = "test_accuracy") -> dict[tuple[float, str], Cell]:
    """{(sparsity, label): Cell} over the seeds.

    rows:  with `sparsity`, `method`, `small` and the value, as the demo's summary.json holds them

    >>> rows = [{"sparsity": 0.9, "method": "dense", "small": None, "test_accuracy": a} for a in (0.75, 0.25)]
    >>> summarize(rows)[0.9, "dense"].mean
    0.5
    """
    groups: dict[tuple[float, str], list[float]] = {}
    for row in rows:
        groups.setdefault((row["sparsity"], label(row["method"], row["small"])), []).append(row[value])
    return {key: Cell(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))
            for key, values in groups.items()}


def label(method: str, small: float | None) -> str:
    """The name of a method in tables and plots; with a core, of the share that may be chosen.

    >>> label("optimized", 1.0), label("optimized", 0.3)
    ('optimized', 'optimized, small 0.3')
    """
    return method if small in (None, 1.0) else f"{method}, small {small:g}"


def grid(cells: Mapping[tuple[float, str], Cell], percent: bool = True) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of a table with one row a method and one column a sparsity, in the order they come.

    percent: the values are fractions; otherwise plain numbers

    >>> grid({(0.9, "dense"): Cell(0.5, 0.0, 1)})
    (['method', '90 %'], [['dense', '50.00%']])
    """
    rates = list(dict.fromkeys(rate for rate, _ in cells))
    names = list(dict.fromkeys(name for _, name in cells))
    show = str if percent else Cell.plain
    rows = [[name, *(show(cells[rate, name]) if (rate, name) in cells else "" for rate in rates)] for name in names]
    return ["method", *(f"{100 * rate:g} %" for rate in rates)], rows
