"""Files of measured figures, with the machine, the commit and the command's options.

benchmarks/results/<name>.json is what benchmarks/report.py reads; quick and small runs go to runs/benchmarks/.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from optprune_fast.bench.machine import PEAK_NAME

FOLDER = Path(__file__).parent / "results"
ASIDE = Path("runs") / "benchmarks"


def write(name: str, kind: str, rows: Iterable[Mapping[str, Any]], machine: Mapping[str, Any],
          options: Mapping[str, Any], folder: Path | None = None, **more: Any) -> Path:
    """kind: "masked_forward", "cost", "moves", "disk" or "threshold", which is what the report knows."""
    folder = folder or FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    document = {"kind": kind, "machine": dict(machine), "peak": PEAK_NAME, "options": dict(options), **more,
                "rows": list(rows)}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    return path


def read(kind: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """The documents of a kind, oldest first."""
    paths = sorted((folder or FOLDER).glob("*.json"))
    documents = [document for document in map(_load, paths) if document["kind"] == kind]
    return sorted(documents, key=lambda document: document["machine"]["date"])


def _load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document
