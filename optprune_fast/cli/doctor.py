"""`optprune-fast doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from optprune_fast.cli.show import Json, print_json, print_table, teaching
from optprune_fast.cli.verify import verify as self_check
from optprune_fast.runtime import doctor as runtime


@teaching
def doctor(
    verify: Annotated[bool, typer.Option("--verify", help="Let every backend evaluate a small network.")] = False,
    json: Json = False,
) -> None:
    """What runs on this machine, why the rest does not, and how to get it."""
    report = runtime.doctor()
    checks = self_check(report) if verify else []
    if json:
        print_json(report.as_dict() | ({"checks": [asdict(check) for check in checks]} if verify else {}))
    else:
        typer.echo(str(report))
        if verify:
            typer.echo("")
            rows = [[c.backend, c.device, c.verdict, "" if c.error is None else f"{c.error:.1e}", f"{c.limit:.1e}"]
                    for c in checks]
            print_table("each backend against float64", ["backend", "device", "verdict", "error", "allowed"], rows)
    if any(check.verdict == "wrong" for check in checks):
        raise typer.Exit(1)
