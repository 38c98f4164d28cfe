"""The command line `optprune-fast`. It needs the extra `cli`; the library does not."""

from __future__ import annotations

import sys
from importlib.util import find_spec

NEEDED = ("typer", "rich")


def main() -> None:
    """Run the command that `sys.argv` names. Exit code 1: an error of the user; 2: wrong usage."""
    absent = [package for package in NEEDED if not _there(package)]
    if absent:
        sys.exit(f'optprune-fast: {" and ".join(absent)} not installed; pip install "optprune-fast[cli]"')
    from optprune_fast.cli.app import app  # only now: it imports what was looked for

    app()


def _there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # half imported, or set to None in sys.modules
        return False
