"""What came of all stages: a text whose last lines are one a stage, and the same as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu_check.build import Machine
from gpu_check.stage import Outcome

SHOWN = 12  # faults of a stage in the text; all of them are in the JSON


def text(outcomes: Sequence[Outcome]) -> str:
    """Tables of rows, then the table of stages."""
    tables = [f"{o.title}\n\n{o.table(o.rows)}" for o in outcomes if o.table is not None and o.rows]
    last = [f"{'stage':<24}{'s':>7}  how it ended", *(line for o in outcomes for line in _lines(o))]
    return "\n\n".join([*_machine_lines(outcomes), *tables, "\n".join(last)])


def _machine_lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for known in _machines(outcomes):
        yield "\n".join(f"{name:<12}{value}" for name, value in asdict(known).items() if name != "doctor")


def _lines(o: Outcome) -> Iterator[str]:
    yield f"{o.name:<24}{o.seconds:>7.1f}  {_ended(o)}"
    shown = [*(f"skipped: {text}" for text in o.skipped), *(f"WRONG: {text}" for text in o.faults[:SHOWN])]
    if len(o.faults) > SHOWN:
        shown.append(f"and {len(o.faults) - SHOWN} more, in the JSON")
    yield from (f"{'':<33}{line}" for line in shown)


def _ended(o: Outcome) -> str:
    """In a few words.

    >>> _ended(Outcome("offsets", end="whole"))
    'right'
    >>> _ended(Outcome("networks", end="cut off", at="MLP", faults=["a", "b"]))
    '2 wrong, CUT OFF (MLP); the rest of it was not looked at'
    """
    words = [f"{len(o.faults)} wrong"] if o.faults else []
    if o.end == "whole" and not words:
        nothing = o.skipped and not o.rows and not o.at
        words.append("skipped" if nothing else "right" if o.judges else f"{len(o.rows)} rows")
    if o.end == "cut off":
        words.append(f"CUT OFF{f' ({o.at})' if o.at else ''}; the rest of it was not looked at")
    if o.end == "died":
        words.append(f"DIED{f' ({o.at})' if o.at else ''}; the rest of it was not looked at")
    if o.end == "not begun":
        words.append("NOT BEGUN: no time was left")
    return ", ".join(words)


def write(outcomes: Sequence[Outcome], folder: Path) -> Path:
    """gpu-<card>-<date>.json and .txt; the path of the first."""
    known = next(iter(_machines(outcomes)), None)
    card = re.sub(r"[^a-z0-9]+", "-", known.card.lower()).strip("-") if known else "unknown"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"gpu-{card}-{known.date if known else 'undated'}.json"
    stages = [{name: value for name, value in _plain(o).items() if name not in ("title", "table")} for o in outcomes]
    path.write_text(json.dumps({"kind": "gpu_check", "machine": asdict(known) if known else None, "stages": stages},
                               indent=1) + "\n")
    path.with_suffix(".txt").write_text(text(outcomes) + "\n")
    return path


def _machines(outcomes: Sequence[Outcome]) -> list[Machine]:
    return [row for o in outcomes for row in o.rows if isinstance(row, Machine)]


def _plain(o: Outcome) -> dict[str, Any]:
    return {**vars(o), "rows": [asdict(row) for row in o.rows]}
