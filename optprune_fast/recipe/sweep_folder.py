"""The folder of a sweep.

    folder/sweep.json            the sparsities that were asked for
    folder/0.95/mask.safetensors the result of one
    folder/0.95/journal          how its search stands, or stood at its end
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from optprune_fast.recipe.result import FILE
from optprune_fast.runtime.errors import IntegrityError, message
from optprune_fast.runtime.files import write_json

LIST, JOURNAL = "sweep.json", "journal"
FORMAT, VERSION = "optprune_fast.sweep", 1


def claim(folder: str | os.PathLike[str], sparsities: tuple[float, ...]) -> Path:
    """Make the folder that of a sweep over these sparsities, with a folder for each.

    Raises `ValueError` if it is that of a sweep over others, and changes nothing then.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(message("sweep", "folder must be a folder", folder=str(target)))
    found = written_sparsities(target)
    if found is not None and found != sparsities:
        raise ValueError(message("sweep", "the folder holds a sweep over other sparsities",
                                 "give each sweep a folder of its own", folder=str(target), folder_has=found,
                                 sparsities=sparsities))
    for sparsity in sparsities:
        rate_folder(target, sparsity).mkdir(parents=True, exist_ok=True)
    if found is None:
        write_json(target / LIST, {"format": FORMAT, "version": VERSION, "sparsities": sparsities})
    return target


def rate_folder(folder: str | os.PathLike[str], sparsity: float) -> Path:
    """Where the result of one sparsity is; the shortest text that reads back as the same number names it."""
    return Path(folder) / repr(sparsity)


def journal_in(place: Path) -> Path:
    """The journal of the search of one sparsity. Raises `ValueError` if a result is there without it, since the sweep
    would replace that."""
    if (place / FILE).exists() and not (place / JOURNAL).exists():
        raise ValueError(message("sweep", "the folder holds a result without the journal of its search",
                                 "give each sweep a folder of its own", folder=str(place)))
    return place / JOURNAL


def written_sparsities(folder: str | os.PathLike[str]) -> tuple[float, ...] | None:
    """The sparsities of the sweep in a folder; None where there is none. Raises `IntegrityError` for a damaged list."""
    path = Path(folder) / LIST
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if (document["format"], document["version"]) != (FORMAT, VERSION):
            raise ValueError("it is of another format or version")
        return tuple(float(sparsity) for sparsity in document["sparsities"])
    except (KeyError, TypeError, ValueError) as problem:
        raise IntegrityError(message("sweep", f"the list of sparsities cannot be read: {problem}",
                                     path=str(path))) from problem
