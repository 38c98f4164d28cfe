"""The commands, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from optprune_fast.cli.bench import bench
from optprune_fast.cli.demo import demo
from optprune_fast.cli.doctor import doctor
from optprune_fast.cli.eval import evaluate
from optprune_fast.cli.inspect import inspect
from optprune_fast.cli.prune import prune
from optprune_fast.cli.report import report
from optprune_fast.cli.show import teaching
from optprune_fast.cli.sweep import sweep
from optprune_fast.runtime.errors import coming

app = typer.Typer(
    name="optprune-fast", no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False,
    help="Which weights of a trained network to keep, found by what they do to the real loss.")

app.command()(demo)
app.command()(prune)
app.command()(sweep)
app.command("eval")(evaluate)
app.command()(inspect)
app.command()(report)
app.command()(bench)
app.command()(doctor)


def _later(name: str, what: str) -> Callable[..., Any]:
    """A command that says what is coming, whatever follows it."""
    def command(context: typer.Context) -> None:
        raise coming(name, what)

    command.__doc__ = "Not built yet."
    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    return app.command(name, context_settings=settings)(teaching(command))


export = _later("export", "sparse formats come next; Result.apply_to(model) and a plain save work today")
