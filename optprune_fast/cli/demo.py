"""`optprune-fast demo`."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm  # type: ignore[import-untyped]

from optprune_fast.cli.experiment import FREE, QUICK, Plan, as_dicts, folder, network, run
from optprune_fast.cli.loading import load_data
from optprune_fast.cli.show import Json, print_json, print_table, teaching
from optprune_fast.report.plots import draw
from optprune_fast.report.tables import grid, summarize
from optprune_fast.runtime.errors import message
from optprune_fast.runtime.files import write_json


@teaching
def demo(
    out: Annotated[Path, typer.Option(help="Folder for results, table and picture.")] = Path("runs/demo"),
    seeds: Annotated[int, typer.Option(help="Networks to train and prune.")] = Plan.seeds,
    quick: Annotated[bool, typer.Option("--quick", help="One seed and short searches: does it run at all?")] = False,
    json: Json = False,
) -> None:
    """Prune a network that reads handwritten digits to 90, 95 and 98 %, and compare four ways to do it.

    The search sees the train part alone; test accuracy is measured after each choice.
    """
    if seeds < 1:
        raise ValueError(message("demo", "--seeds must be at least 1", seeds=seeds))
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(message("demo", "--out must be a folder", out=str(out)))
    plan = QUICK if quick else dataclasses.replace(Plan(), seeds=seeds)
    start = time.perf_counter()
    data = load_data("digits")
    out.mkdir(parents=True, exist_ok=True)
    with tqdm(total=plan.steps, desc="demo", disable=True if json else None, leave=False) as bar:
        def step(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        rows, weights = run(plan, data, out, step)
    table = as_dicts(rows)
    write_json(out / "summary.json", table)
    cells = summarize(table)
    draw(cells, weights, out / "demo.png")
    seconds = time.perf_counter() - start
    if json:
        means = [{"sparsity": rate, "method": name, "mean": cell.mean, "spread": cell.spread, "runs": cell.runs}
                 for (rate, name), cell in cells.items()]
        print_json({"out": str(out), "seconds": seconds, "means": means, "rows": table})
        return
    _print(plan, out, grid(cells), seconds)


def _print(plan: Plan, out: Path, table: tuple[list[str], list[list[str]]], seconds: float) -> None:
    print_table(f"test accuracy on handwritten digits, {plan.seeds} seed{'s' if plan.seeds > 1 else ''}", *table)
    for line in (
        "magnitude: the largest weights; optimized: as many, chosen by loss; random_small: as many small weights as",
        "optimized kept, drawn at random, beside the largest. Where it says small, the others are a fixed core.",
        "Every pruned network of a column keeps the same number of weights. The search never saw test data.",
        f"{seconds:.0f} s; wrote {out / 'summary.json'}, {out / 'demo.png'}, and every mask. Look at one:",
        f"  optprune-fast inspect {folder(out, plan.sparsities[0], 0, FREE)}",
        f"  optprune-fast eval {folder(out, plan.sparsities[0], 0, FREE)} {_factory()} "
        f"--data digits --checkpoint {out / 'networks' / '0.safetensors'}",
    ):
        typer.echo(line)


def _factory() -> Any:
    return f"{network.__module__}:{network.__name__}"
