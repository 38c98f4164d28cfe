"""`report`: what searches found, as one page, pictures, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from optprune_fast.engine.batches import Data
from optprune_fast.engine.objective import UserObjective
from optprune_fast.recipe.result import Result
from optprune_fast.report import figures
from optprune_fast.report.document import Document, document
from optprune_fast.report.judges import Judges
from optprune_fast.report.page import page
from optprune_fast.report.runs import in_order
from optprune_fast.report.style import look, matplotlib_figure, svg
from optprune_fast.runtime.errors import message
from optprune_fast.runtime.files import write_aside, write_json, write_text

# In the order of the page, each with the table that it needs.
FIGURES: dict[str, tuple[figures.Draw, str]] = {
    "accuracy": (figures.accuracy, "curves"), "overfitting": (figures.overfitting, "convergence"),
    "convergence": (figures.convergence, "convergence"), "histogram": (figures.histogram, "histogram"),
    "densities": (figures.densities, "layers"), "small": (figures.small, "layers"),
    "swaps": (figures.swaps, "swaps")}
DPI = 130
TABLES = ("runs", "measures", "curves", "convergence", "layers", "thresholds", "histogram", "swaps")


def report(results: Result | Iterable[Result], folder: str | os.PathLike[str],
           model: nn.Module | Iterable[nn.Module] | None = None, data: Data | None = None, test: Data | None = None, *,
           validation: Data | None = None, objective: UserObjective | None = None) -> Path:
    """Write a report of one result, or of many: sparsities, strategies and seeds; return the path of the page.

    results:     of networks of one layout, found for one objective
    folder:      for `report.html`, a page that needs nothing else; a PNG for each of its figures; `report.json` and
                 `report.csv` with every number (docs/FORMATS.md). Files of an earlier report are replaced
    model:       the network that was pruned, or several (a seed each, told apart by their weights): adds accuracies and
                 the parts about single weights
    data:        what `prune` was given, in the same order: adds accuracies, and what single small weights are worth.
                 Where `prune` held out a part of it, the report holds out the same part
    test:        data that neither training nor search saw: adds test accuracy
    validation:  what `prune` was given as `validation`
    objective:   what `prune` was given as `objective`, if that was a function

    What is missing is left out, and the page says what would show it. Raises `ValueError` before any work if matplotlib
    (the extra `plot`) is not installed, if results cannot be compared, if the weights of the models are those of no
    result, or if the data give a mask another fitness than was saved.

    >>> found = [prune(net, samples, rate) for rate in (0.9, 0.95)]  # doctest: +SKIP
    >>> report(found, "runs/report", net, samples)  # doctest: +SKIP
    PosixPath('runs/report/report.html')
    """
    matplotlib_figure()
    runs = in_order(results)
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(message("report", "needs a folder, and this is a file", folder=str(target)))
    made = document(runs, Judges(runs, model, data, validation, test, objective))
    target.mkdir(parents=True, exist_ok=True)
    pictures = {}
    with look() as drawing:
        for name, (draw, table) in FIGURES.items():
            (target / f"{name}.png").unlink(missing_ok=True)  # of an earlier report that had more to show
            if made[table]:
                figure = draw(drawing, made)
                figure.draw_without_rendering()  # lays it out: once for both files
                figure.set_layout_engine("none")
                pictures[name] = svg(figure, name)
                with write_aside(target / f"{name}.png") as aside:
                    figure.savefig(aside, dpi=DPI)
    write_json(target / "report.json", made)
    write_text(target / "report.csv", _csv(made))
    write_text(target / "report.html", page(made, pictures))  # last: whoever finds it finds the rest
    return target / "report.html"


def _csv(made: Document) -> str:
    """All tables below one another: a column `table`, then one for each name that a column of any of them has."""
    tables = {name: made[name] for name in TABLES}
    columns = list(dict.fromkeys(column for rows in tables.values() for row in rows for column in row))
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["table", *columns])
    for name, rows in tables.items():
        lines.writerows([name, *(_cell(row.get(column)) for column in columns)] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, bool)) else value
