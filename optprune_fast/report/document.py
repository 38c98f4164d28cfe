"""Everything that a report shows, as plain tables: the page, the figures, JSON and CSV are made from these alone."""

from __future__ import annotations

from typing import Any

from optprune_fast.report import layers, swaps
from optprune_fast.report.judges import Judges, masks_of
from optprune_fast.report.runs import Run, shown, sparsities
from optprune_fast.report.tables import summarize
from optprune_fast.report.verdict import headline, verdict
from optprune_fast.runtime.files import finite
from optprune_fast.version import __version__

Row = dict[str, Any]
Document = dict[str, Any]
PARTS = ("calibration", "validation", "test")
_PLAIN = ("sparsity", "strategy", "small", "seed", "budget", "kept_small", "fitness", "baseline", "evaluations",
          "seconds", "stopped_by", "held_out", "base_digest", "logit_scale", "precision")


def document(runs: list[Run], judges: Judges) -> Document:
    """The tables of a report (docs/FORMATS.md). Infinite and undefined numbers are None."""
    measures = [row for part in PARTS for row in _measures(runs, judges, part)]
    single = list(shown(runs, judges.weights))
    made: Document = {
        "format": "optprune_fast.report", "version": 1, "made_by": __version__,
        "objective": runs[0].result.objective, "weights": runs[0].result.layout.n,
        "layout_digest": runs[0].result.layout.digest, "sparsities": sparsities(runs),
        "methods": list(dict.fromkeys(run.method for run in runs)), "shown": [run.number for run in single],
        "runs": [_run(run) for run in runs], "measures": measures, "curves": _curves(measures),
        "convergence": [{"run": run.number, **row} for run in runs for row in run.result.history],
        "layers": [{"run": run.number, **row} for run in runs for row in layers.by_layer(run.result)],
        "thresholds": [], "histogram": [], "swaps": []}
    for run in single:
        _of_weights(made, run, judges)
    made["headline"] = headline(made)
    made["verdict"] = verdict(made)
    made["notes"] = _notes(made, judges)
    clean: Document = finite(made)
    return clean


def _run(run: Run) -> Row:
    result = run.result
    return {"run": run.number, "method": run.method, **{name: getattr(result, name) for name in _PLAIN},
            "calibration": run.result.calibration_fitness}


def _measures(runs: list[Run], judges: Judges, part: str) -> list[Row]:
    """Loss and, where it can be had, accuracy of the dense network, of magnitude pruning and of each found mask.

    Runs that share network, sparsity and samples have one dense network and one magnitude mask among them.
    """
    rows: list[Row] = []
    counted = set()
    for run in runs:
        result, judge = run.result, judges.on(run, part)
        common = {"network": result.base_digest, "sparsity": result.sparsity, "seed": result.seed, "part": part}
        found: dict[str, tuple[float | None, float | None]] = {}
        if judge is not None:
            metrics = judge.metrics(masks_of(result))
            right = metrics["accuracy"].tolist() if "accuracy" in metrics else [None] * 3
            found = dict(zip(("dense", "magnitude", "optimized"), zip(metrics["loss"].tolist(), right, strict=True),
                             strict=True))
        elif part == "validation":
            found = {"magnitude": (result.baseline, None), "optimized": (result.fitness, None)}
        elif part == "calibration" and run.result.calibration_fitness is not None:
            found = {"optimized": (run.result.calibration_fitness, None)}
        for method, (loss, accuracy) in found.items():
            searched = method == "optimized"
            key = (method, result.base_digest, result.sparsity, result.seed, result.held_out)
            if searched or key not in counted:
                rows.append({"run": run.number if searched else None, **common,
                             "method": result.strategy if searched else method,
                             "small": result.small if searched else None, "loss": loss, "accuracy": accuracy})
            counted.add(key)
    return rows


def _curves(measures: list[Row]) -> list[Row]:
    rows = []
    for part in PARTS:
        for quantity in ("accuracy", "loss"):
            there = [row for row in measures if row["part"] == part and row[quantity] is not None]
            rows += [{"sparsity": rate, "method": name, "part": part, "quantity": quantity, "mean": cell.mean,
                      "spread": cell.spread, "runs": cell.runs}
                     for (rate, name), cell in summarize(there, quantity).items()]
    return rows


def _of_weights(made: Document, run: Run, judges: Judges) -> None:
    """The tables of one run that need its weights; and those that need data besides."""
    weights, result = judges.flat(run), run.result
    if weights is None:
        return
    kept, small = result.mask.flat()[0], (result.mask & ~result.magnitude).flat()[0]
    made["thresholds"].append({"run": run.number, "threshold": layers.threshold(weights, result.magnitude)})
    made["histogram"] += [{"run": run.number, **row} for row in layers.by_size(weights, kept, small)]
    calibration = judges.on(run, "calibration")
    if calibration is not None:
        found = swaps.paying(result, weights, calibration, judges.on(run, "validation"))
        made["swaps"] += [{"run": run.number, **row} for row in found]


def _notes(made: Document, judges: Judges) -> list[str]:
    """One line for each part that is not there: what would show it."""
    notes = []
    networks = {row["base_digest"] for row in made["runs"]}
    if not judges.weights:
        notes.append("The sizes of the kept weights are not shown: give the network, model= or --model.")
    elif missing := len(networks - judges.weights.keys()):
        notes.append(f"{missing} of {len(networks)} networks were not given: their runs count with the losses saved, "
                     "and not in accuracies. Give all of them, model=[…] or --checkpoint again and again.")
    if not made["swaps"]:
        notes.append("What single small weights are worth is not shown: no run that is shown kept any."
                     if made["histogram"] and _has(made, "calibration", "dense") else
                     "What single small weights are worth is not shown: give the network and the data of the search, "
                     "model= and data=, or --model and --data.")
    if not _has(made, "test", "dense"):
        notes.append("Test data were not given: nothing here was measured on samples that the choice did not see. "
                     "Give the network and test=, or --data with a test part.")
    if made["headline"]["quantity"] == "loss":
        notes.append("Accuracies are not shown: they need the network, and data with class labels.")
    return notes


def _has(made: Document, part: str, method: str) -> bool:
    return any(row["part"] == part and row["method"] == method for row in made["measures"])
