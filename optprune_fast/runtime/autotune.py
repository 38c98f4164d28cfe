"""What was timed on a device, kept for the next process: `OPTPRUNE_AUTOTUNE=1` asks for it, and nothing else reads it.

    <cache folder of the user>/optprune_fast/launches.json      {"format": …, "version": 1, "choices": {key: choice}}

A key names all that a time depends on, versions and device included, so a choice serves only what it was timed for.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

from optprune_fast.runtime.environment import variable
from optprune_fast.runtime.errors import FallbackWarning
from optprune_fast.runtime.files import write_json

VARIABLE = "OPTPRUNE_AUTOTUNE"
FORMAT, VERSION = "optprune_fast.launches", 1

_read: dict[Path, dict[str, str]] = {}


def on() -> bool:
    """Whether launches are chosen by timing. Raises `ValueError` for a value that the variable does not have."""
    wish = variable(VARIABLE) or "0"
    if wish not in ("0", "1"):
        raise ValueError(f"{VARIABLE} must be one of 0, 1, not {wish!r}")
    return wish == "1"


def path() -> Path:
    """Where choices lie, whether there are any or not."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "optprune_fast" / "launches.json"


def known(key: str) -> str | None:
    """The choice that was written for a key, or None."""
    place = path()
    if place not in _read:
        _read[place] = _choices(place)
    return _read[place].get(key)


def remember(key: str, choice: str) -> None:
    """Write a choice beside those that other processes have written; a folder that cannot be written to is a warning,
    and the choice then serves this process."""
    place = path()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _read[place] = {**_read.get(place, {}), **_choices(place), key: choice}
        write_json(place, {"format": FORMAT, "version": VERSION, "choices": _read[place]})
    except OSError as error:
        _read.setdefault(place, {})[key] = choice
        warnings.warn(f"{VARIABLE}: choices cannot be kept in {place} ({error}); XDG_CACHE_HOME names another folder",
                      FallbackWarning, stacklevel=2)


def _choices(place: Path) -> dict[str, str]:
    """What a file holds. One that is damaged or not ours is a warning, and is replaced when a choice is written: all
    that it could hold can be timed again."""
    if not place.exists():
        return {}
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
        if (document["format"], document["version"]) != (FORMAT, VERSION):
            raise ValueError("it is of another format or version")
        choices = document["choices"]
        if not all(isinstance(text, str) for pair in choices.items() for text in pair):
            raise ValueError("it holds something else than texts")
        return dict(choices)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        warnings.warn(f"{VARIABLE}: {place} cannot be read ({problem}), so launches are timed anew and it is replaced",
                      FallbackWarning, stacklevel=2)
        return {}
