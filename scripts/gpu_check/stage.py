"""A stage: one check or benchmark, what it yields while it runs, and what came of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Device:
    """What is checked, and in which ways; another one is for tests, which have no GPU."""

    name: str = "cuda"
    backends: tuple[str, ...] = ("cuda", "triton", "torch")
    engine: str = "triton"


# ---- what a stage yields; anything else is a row of its table, a dataclass


@dataclass(frozen=True)
class At:
    """Where it is now: what a stage that is cut off was cut off at."""

    what: str


@dataclass(frozen=True)
class Fault:
    text: str


@dataclass(frozen=True)
class Skipped:
    """A part that was not looked at, and why."""

    text: str


# ---- what is said of it from outside


@dataclass(frozen=True)
class Ended:
    """It has seen everything."""


@dataclass(frozen=True)
class Late:
    """Its time was up."""


@dataclass(frozen=True)
class Died:
    why: str


Found = Any  # one of the above, or a row
Run = Callable[[Device], Iterator[Found]]


def nothing() -> None:
    """What a stage lacks that can run anywhere."""


@dataclass(frozen=True)
class Stage:
    """run:      module-level, so that another process finds it
    seconds:  the most it may take, the start of a process included; less where less is left of the whole
    needs:    why it cannot run here, or None
    title:    over its rows;   table: of them
    judges:   whether all is right is known only if it ends; a benchmark judges nothing but what it times
    """

    name: str
    run: Run
    seconds: float
    needs: Callable[[], str | None] = nothing
    title: str = ""
    table: Callable[[Sequence[Any]], str] | None = None
    judges: bool = True


@dataclass
class Outcome:
    """end: "whole", "cut off", "died" or "not begun";   at: where it was last"""

    name: str
    title: str = ""
    table: Callable[[Sequence[Any]], str] | None = None
    judges: bool = True
    end: str = "not begun"
    at: str = ""
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not self.faults and (self.end == "whole" or not self.judges)

    def take(self, found: Found) -> None:
        match found:
            case At(what):
                self.at = what
                print(f"  {what}", flush=True)
            case Fault(text):
                self.faults.append(text)
                print(f"  WRONG: {text}", flush=True)
            case Skipped(text):
                self.skipped.append(text)
            case Ended():
                self.end = "whole"
            case Late():
                self.end = "cut off"
            case Died(why):
                self.end = "died"
                self.faults.append(why)
            case row:
                self.rows.append(row)


def outcome(stage: Stage, found: Iterable[Found]) -> Outcome:
    """Take in all that is found, as it comes."""
    out = Outcome(stage.name, stage.title, stage.table, stage.judges)
    begun = time.monotonic()
    for one in found:
        out.take(one)
    out.seconds = time.monotonic() - begun
    return out


def told(stage: Stage, device: Device) -> Iterator[Found]:
    """What a stage finds, and last whether it has ended or died."""
    try:
        reason = stage.needs()
        if reason:
            yield Skipped(reason)
        else:
            yield from stage.run(device)
        yield Ended()
    except Exception as error:  # noqa: BLE001  whatever it is, the other stages go on
        traceback.print_exc()
        yield Died("".join(traceback.format_exception_only(error)).strip())
