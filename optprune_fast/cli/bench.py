"""`optprune-fast bench`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from optprune_fast.bench import Problem, cells, chosen, compare
from optprune_fast.bench.machine import PEAK_NAME, describe_machine
from optprune_fast.bench.race import Rules
from optprune_fast.bench.table import HEADER
from optprune_fast.cli.loading import CHECKPOINT_HELP, DATA_HELP, FACTORY_HELP, check_fits, load_data, load_model
from optprune_fast.cli.show import Json, print_json, print_table, teaching
from optprune_fast.runtime.errors import message


@teaching
def bench(
    model: Annotated[str, typer.Argument(help=FACTORY_HELP)],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    checkpoint: Annotated[Path | None, typer.Option(help=CHECKPOINT_HELP)] = None,
    density: Annotated[list[float] | None, typer.Option(help="Kept share of the weights; repeat for more.")] = None,
    candidates: Annotated[int, typer.Option(help="Masks a call.")] = 64,
    samples: Annotated[int, typer.Option(help="Samples, the first of the train part.")] = 256,
    threads: Annotated[list[int] | None, typer.Option(help="Of both sides; repeat for more.")] = None,
    rounds: Annotated[int, typer.Option(help="Timed calls of each rival, on fresh masks each.")] = 5,
    seconds: Annotated[float, typer.Option(help="After so many a rival stops early, with two calls.")] = 20.0,
    backend: Annotated[str, typer.Option(help="Ours: auto, native, numba or torch.")] = "auto",
    without: Annotated[list[str] | None, typer.Option(help="A rival to leave out; repeat for more.")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="With torch.compile, which takes long to begin.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Measure memory too, in fresh processes.")] = False,
    json: Json = False,
) -> None:
    """Time the evaluator on your model and data against what torch users do today, on random masks.

    Each rival is checked against float64 before it is timed. One that cannot run your model is an error: leave it out
    by name with --without.
    """
    if min(candidates, samples, rounds) < 1:
        raise ValueError(message("bench", "--candidates, --samples and --rounds must be at least 1",
                                 candidates=candidates, samples=samples, rounds=rounds))
    rivals = chosen([backend], compiled=compile, without=without or ())
    make = partial(user_problem, model, data, checkpoint, samples)
    problem = make()
    say = partial(typer.echo, err=True)
    rows = compare(partial(same, make), rivals, densities=density or [0.1], candidates=candidates,
                   threads=threads or [torch.get_num_threads()], rules=Rules(rounds, seconds), memory=memory, say=say)
    if json:
        print_json({"rows": rows, "peak": PEAK_NAME, "machine": describe_machine()})
        return
    print_table(f"{len(problem.inputs)} samples of {data}; * the best torch rival; errors against float64",
                list(HEADER), cells(rows))


def user_problem(model: str, data: str, checkpoint: Path | None, samples: int) -> Problem:
    """The model and the first samples of the train part. At module level: memory is measured in other processes."""
    inputs, targets = load_data(data).train
    net = load_model(model, checkpoint).requires_grad_(False)
    some = inputs[:samples], targets[:samples]
    check_fits(net, some, data)
    return Problem(model.rpartition(":")[2], net, *some)


def same(make: partial[Problem], density: float) -> Problem:
    """The user's weights are what they are, at every density."""
    return make()
