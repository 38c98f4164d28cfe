"""What the commands share: tables, JSON, and errors without a traceback."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from optprune_fast.runtime.errors import BackendError
from optprune_fast.runtime.files import finite

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Command = TypeVar("Command", bound=Callable[..., Any])

# What a user can put right. Anything else is our fault and keeps its traceback. IntegrityError is a ValueError.
USER_ERRORS = (ValueError, TypeError, FileNotFoundError, NotADirectoryError, PermissionError, BackendError)


def teaching(command: Command) -> Command:
    """The command, with the user's errors as plain text on stderr and exit code 1."""
    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except USER_ERRORS as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error

    return wrapped  # type: ignore[return-value]


def print_json(document: object) -> None:
    """One document on stdout; infinity and NaN, which JSON lacks, become null."""
    typer.echo(json.dumps(finite(document), indent=2, allow_nan=False))


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout: the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    # Not wrapped where the output is a file or a pipe: a reader of lines needs whole rows.
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(table)


def percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.2%}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
