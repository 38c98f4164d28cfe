"""`optprune-fast prune`."""

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
from optprune_fast.masks.budgets import SCHEMES
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.precision import DEFAULT
from optprune_fast.recipe import prune as recipe
from optprune_fast.recipe.result import Result
from optprune_fast.runtime.errors import message

METHODS = ("dense", "magnitude", "optimized")
STARTS = ("magnitude", *SCHEMES)


@teaching
def prune(
    model: Model,
    data: Data,
    sparsity: Annotated[float, typer.Option(help="Fraction of the prunable weights to prune.")] = 0.95,
    out: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("runs/prune"),
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
    start: Annotated[str, typer.Option(help=f"Where to start: {', '.join(STARTS)}, or the folder of a result of this "
                                            "sparsity.")] = "magnitude",
    journal: Annotated[Path | None, typer.Option(help="File from which the same command goes on after a stop.")] = None,
    json: Json = False,
) -> None:
    """Choose which weights to keep, save the mask, and compare it with magnitude pruning.

    The search sees the train part of the data alone. Ctrl-C ends it and keeps the best mask so far.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(message("prune", "--out must be a folder", out=str(out)))
    start_at = _start(start)
    inputs = Inputs.load(model, checkpoint, data, validation)
    result = recipe.prune(inputs.net, inputs.data.train, sparsity, strategy, small, pool, inputs.validation,
                          evaluations, time_limit, seed, objective=objective, backend=backend, logit_scale=logit_scale,
                          start=start_at, journal=journal, progress=False if json else None, precision=precision)
    path = result.save(out)
    report = _report(inputs, result, backend, path)
    print_json(report) if json else _print(report)


def _start(start: str) -> str | PackedMasks:
    """A scheme by its name, or the mask of a result."""
    if start in STARTS:
        return start
    if not Path(start).exists():
        raise ValueError(message("prune", f"--start must be one of {', '.join(STARTS)}, or the folder of a result",
                                 start=start))
    return Result.load(start).mask


def _report(inputs: Inputs, result: Result, backend: str, path: Path) -> dict[str, Any]:
    """Everything there is to say, with one row a method."""
    masks = [PackedMasks.full(result.layout), result.magnitude, result.mask]
    rows = [{"method": name, **row} for name, row in zip(METHODS, inputs.judge(masks, result, backend), strict=True)]
    return {"rows": rows, "sparsity": result.sparsity, "budget": result.budget, "kept_small": result.kept_small,
            "strategy": result.strategy, "seed": result.seed, "objective": result.objective,
            "logit_scale": result.logit_scale, "precision": result.precision, "held_out": result.held_out,
            "fitness": result.fitness, "baseline": result.baseline, "evaluations": result.evaluations,
            "seconds": result.seconds, "stopped_by": result.stopped_by, "path": str(path)}


def _print(report: dict[str, Any]) -> None:
    header = ["method", "kept", f"{report['objective']} (held out)", "accuracy (held out)", "accuracy (test)"]
    tested = report["rows"][0]["test_accuracy"] is not None
    rows = [[row["method"], str(row["kept"]), number(row["held_out_loss"]), percent(row["held_out_accuracy"]),
             percent(row["test_accuracy"])][: None if tested else -1] for row in report["rows"]]
    print_table(f"sparsity {report['sparsity']:.2%}", header[: None if tested else -1], rows)
    typer.echo(f"{report['kept_small']} of {report['budget']} kept weights are small ones that magnitude would drop")
    typer.echo(f"selected on: {report['held_out']}" + ("; test data came after the selection" if tested else ""))
    typer.echo(f"{report['strategy']}: {report['evaluations']} evaluations in {report['seconds']:.1f} s, "
               f"stopped by {report['stopped_by']}")
    typer.echo(f"saved {report['path']}")
