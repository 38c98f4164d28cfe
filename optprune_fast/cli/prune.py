"""`optprune-fast prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from optprune_fast.cli.loading import CHECKPOINT_HELP, DATA_HELP, FACTORY_HELP, check_fits, load_data, load_model
from optprune_fast.cli.show import Json, number, percent, print_json, print_table, teaching
from optprune_fast.data import Dataset
from optprune_fast.engine.batches import HELD_OUT, Data, collect, split
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.recipe import prune as recipe
from optprune_fast.recipe.result import Result
from optprune_fast.runtime.errors import message

METHODS = ("dense", "magnitude", "optimized")


@teaching
def prune(
    model: Annotated[str, typer.Argument(help=FACTORY_HELP)],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    sparsity: Annotated[float, typer.Option(help="Fraction of the prunable weights to prune.")] = 0.95,
    out: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("runs/prune"),
    checkpoint: Annotated[Path | None, typer.Option(help=CHECKPOINT_HELP)] = None,
    strategy: Annotated[str, typer.Option(help="auto, genetic, levels or swap.")] = "auto",
    small: Annotated[float | None, typer.Option(help="Share of the kept weights that the search chooses.")] = None,
    pool: Annotated[float | None, typer.Option(help="Fraction of all weights to choose from, past rank k.")] = None,
    evaluations: Annotated[int | None, typer.Option(help="Candidates to evaluate; alone, a seed repeats.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds; 60 if --evaluations is not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of the held-out part and of the search.")] = 0,
    objective: Annotated[str, typer.Option(help="cross_entropy, error, kl_to_dense, mse_to_dense.")] = "cross_entropy",
    backend: Annotated[str, typer.Option(help="auto, cuda, triton, native, numba or torch.")] = "auto",
    validation: Annotated[str | None, typer.Option(help="Data to select by; else 10 % of the train part.")] = None,
    json: Json = False,
) -> None:
    """Choose which weights to keep, save the mask, and compare it with magnitude pruning.

    The search sees the train part of the data alone. Ctrl-C ends it and keeps the best mask so far.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(message("prune", "--out must be a folder", out=str(out)))
    samples = load_data(data)
    judged_by = None if validation is None else load_data(validation).train
    net = load_model(model, checkpoint)
    check_fits(net, samples.train, data)
    if judged_by is not None:
        check_fits(net, judged_by, str(validation))
    result = recipe.prune(net, samples.train, sparsity, strategy, small, pool, judged_by, evaluations, time_limit, seed,
                          objective=objective, backend=backend, progress=False if json else None)
    path = result.save(out)
    held_out = split(collect(samples.train), HELD_OUT, seed)[1] if judged_by is None else judged_by
    report = _report(net, samples, result, held_out, backend, path)
    print_json(report) if json else _print(report)


def _report(net: nn.Module, data: Dataset, result: Result, held_out: Data, backend: str, path: Path) -> dict[str, Any]:
    """Everything there is to say, with one row a method. Test data enter here, after the choice, and nowhere else."""
    masks = PackedMasks.cat([PackedMasks.full(result.layout), result.magnitude, result.mask])
    held = Evaluator(net, held_out, result.objective, backend, layout=result.layout).metrics(masks)
    test = None
    if data.test is not None:
        test = Evaluator(net, data.test, backend=backend, layout=result.layout).metrics(masks)
    rows = [{"method": name, "kept": int(masks[i].count()),
             "held_out_loss": float(held["loss"][i]), "held_out_accuracy": float(held["accuracy"][i]),
             "test_accuracy": None if test is None else float(test["accuracy"][i])} for i, name in enumerate(METHODS)]
    return {"rows": rows, "sparsity": result.sparsity, "budget": result.budget, "kept_small": result.kept_small,
            "strategy": result.strategy, "seed": result.seed, "objective": result.objective,
            "held_out": result.held_out, "fitness": result.fitness, "baseline": result.baseline,
            "evaluations": result.evaluations, "seconds": result.seconds, "stopped_by": result.stopped_by,
            "path": str(path)}


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
