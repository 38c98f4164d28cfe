"""The journal of a run: from it, a run that was killed at any moment goes on, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.runtime.errors import IntegrityError, message
from optprune_fast.runtime.files import load_tensors, save_tensors
from optprune_fast.search.encoding import decode, encode
from optprune_fast.version import __version__

KIND = "journal"
EVERY = 2.0  # seconds between two writings: what a kill can lose


@dataclass
class Journal:
    """One file, replaced as a whole: at every moment it holds the run as it stood a few seconds before.

    path:      written aside, synced, renamed
    identity:  what makes a run this one: the journal of another is refused
    every:     seconds between two writings; 0 writes before every question
    """

    path: Path
    identity: dict[str, Any]
    every: float = EVERY
    clock: Callable[[], float] = time.monotonic
    _written: float | None = field(default=None, repr=False)

    @staticmethod
    def at(path: str | os.PathLike[str], identity: dict[str, Any], every: float = EVERY) -> Journal:
        """Its folder must exist: that it does not is better said before a long search than after it."""
        place = Path(path)
        if not place.parent.is_dir():
            raise FileNotFoundError(message("journal", "its folder does not exist", "make the folder first",
                                            path=str(place)))
        return Journal(place, {"version": __version__, **identity}, every)

    @property
    def due(self) -> bool:
        return self._written is None or self.clock() - self._written >= self.every

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file by one that holds `state`, which `encode` must be able to take."""
        tensors: dict[str, Any] = {}
        content = json.dumps(encode(state, tensors))
        save_tensors(self.path, tensors, {"identity": json.dumps(self.identity, sort_keys=True), "state": content},
                     kind=KIND)
        self._written = self.clock()

    def read(self, layout: MaskLayout) -> dict[str, Any] | None:
        """The state that was written last; None where there is no file yet.

        Raises `ValueError` that names what differs if the journal is of another run, `IntegrityError` if a bit of it
        is not as it was written.
        """
        if not self.path.exists():
            return None
        tensors, metadata = load_tensors(self.path, kind=KIND)
        try:
            found = json.loads(metadata["identity"])
            wanted = json.loads(json.dumps(self.identity))
            if differing := sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)):
                first = differing[0]
                raise ValueError(message("journal", f"it is the journal of another run: {', '.join(differing)} differ",
                                         "give each run a journal of its own, or remove this one to start anew",
                                         path=str(self.path), journal=found.get(first), this_run=wanted.get(first)))
            state: dict[str, Any] = decode(json.loads(metadata["state"]), tensors, layout)
        except (KeyError, TypeError) as problem:
            raise IntegrityError(message("journal", f"the file does not hold a run: {problem}",
                                         path=str(self.path))) from problem
        return state
