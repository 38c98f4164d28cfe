"""`optprune-fast sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from optprune_fast.cli.judged import Inputs
from optprune_fast.cli.search_options import (
    Backend,
    Checkpoint,
    Data,
    Evaluations,
    LogitScale,
    Model,
    Objective,
    Pool,
    Precision,
    Seed,
    Small,
    StrategyName,
    TimeLimit,
    Validation,
)
from optprune_fast.cli.show import Json, number, percent, print_json, print_table, teaching
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.precision import DEFAULT
from optprune_fast.recipe import sweep as recipe
from optprune_fast.runtime.errors import message


@teaching
def sweep(
    model: Model,
    data: Data,
    sparsities: Annotated[str, typer.Option(help="Ascending, with commas between.")] = ",".join(
        map(str, recipe.SPARSITIES)),
    out: Annotated[Path, typer.Option(help="Folder for results and journals: the same command goes on after a "
                                           "stop.")] = Path("runs/sweep"),
    checkpoint: Checkpoint = None,
    strategy: StrategyName = "auto",
    small: Small = None,
    pool: Pool = None,
    evaluations: Evaluations = None,
    time_limit: TimeLimit = None,
    seed: Seed = 0,
    objective: Objective = "cross_entropy",
    logit_scale: LogitScale = None,
    backend: Backend = "auto",
    precision: Precision = DEFAULT,
    validation: Validation = None,
    json: Json = False,
) -> None:
    """Accuracy against sparsity: a mask for each of many sparsities, each search started from the one before.

    The search sees the train part of the data alone. Ctrl-C ends it and keeps what there is.
    """
    rates = _numbers(sparsities)
    inputs = Inputs.load(model, checkpoint, data, validation)
    found = recipe.sweep(inputs.net, inputs.data.train, rates, strategy=strategy, small=small, pool=pool,
                         validation=inputs.validation, evaluations=evaluations, time_limit=time_limit, seed=seed,
                         objective=objective, backend=backend, logit_scale=logit_scale,
                         folder=out, progress=False if json else None, precision=precision)
    report = _report(inputs, found, backend, out)
    print_json(report) if json else _print(report)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as problem:
        raise ValueError(message("sweep", "--sparsities must be numbers with commas between", "for example 0.5,0.9",
                                 sparsities=text)) from problem


def _report(inputs: Inputs, found: recipe.Sweep, backend: str, out: Path) -> dict[str, Any]:
    """One row a sparsity; what is on the Pareto front is chosen on the held-out part."""
    first = found.results[0]
    masks = [PackedMasks.full(first.layout)]
    for result in found.results:
        masks += [result.magnitude, result.mask]
    dense, *judged = inputs.judge(masks, first, backend)
    rows = [{"sparsity": result.sparsity, "kept": result.budget, "kept_small": result.kept_small,
             "front": result in found.front, "logit_scale": result.logit_scale,
             "fitness": result.fitness, "baseline": result.baseline,
             "magnitude": magnitude, "optimized": optimized, "evaluations": result.evaluations,
             "seconds": result.seconds, "stopped_by": result.stopped_by}
            for result, magnitude, optimized in zip(found.results, judged[::2], judged[1::2], strict=True)]
    return {"dense": dense, "rows": rows, "sparsities": list(found.sparsities), "strategy": first.strategy,
            "seed": first.seed, "objective": first.objective, "precision": first.precision,
            "held_out": first.held_out, "out": str(out)}


def _print(report: dict[str, Any]) -> None:
    dense = report["dense"]
    part, key = ("held out", "held_out_accuracy") if dense["test_accuracy"] is None else ("test", "test_accuracy")
    header = ["sparsity", "kept", f"{report['objective']} (held out)", "magnitude", f"accuracy ({part})", "magnitude"]
    rows = [["dense", str(dense["kept"]), number(dense["held_out_loss"]), "", percent(dense[key]), ""]]
    rows += [[f"{row['sparsity']:.2%}" + ("" if row["front"] else " (not on the front)"), str(row["kept"]),
              number(row["fitness"]), number(row["baseline"]), percent(row["optimized"][key]),
              percent(row["magnitude"][key])] for row in report["rows"]]
    print_table("accuracy against sparsity", header, rows)
    typer.echo(f"selected on: {report['held_out']}"
               + ("; test data came after the selection" if part == "test" else ""))
    if len(report["rows"]) < len(report["sparsities"]) or report["rows"][-1]["stopped_by"] == "interrupt":
        typer.echo("stopped; the same command goes on")
    typer.echo(f"saved {report['out']}; a page about it: optprune-fast report {report['out']}")
