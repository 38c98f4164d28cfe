"""The commands, one file each."""

from __future__ import annotations

import typer

from optprune_fast.cli.bench import bench
from optprune_fast.cli.demo import demo
from optprune_fast.cli.doctor import doctor
from optprune_fast.cli.eval import evaluate
from optprune_fast.cli.export import export
from optprune_fast.cli.inspect import inspect
from optprune_fast.cli.prune import prune
from optprune_fast.cli.report import report
from optprune_fast.cli.sweep import sweep

app = typer.Typer(
    name="optprune-fast", no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False,
    help="Which weights of a trained network to keep, found by what they do to the real loss.")

app.command()(demo)
app.command()(prune)
app.command()(sweep)
app.command("eval")(evaluate)
app.command()(export)
app.command()(inspect)
app.command()(report)
app.command()(bench)
app.command()(doctor)
