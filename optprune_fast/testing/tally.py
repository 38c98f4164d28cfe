"""How many tests ran on each backend and instruction set: counted by what ran, not by what a test is called."""

from __future__ import annotations

import functools
from collections import Counter
from types import ModuleType

from optprune_fast.runtime import native
from optprune_fast.runtime.dispatch import BACKENDS, calls

Snapshot = Counter[str]


def snapshot() -> Snapshot:
    """Calls served so far by each backend, and by each instruction set of the native one."""
    now: Snapshot = Counter()
    for (_, backend), served in calls.items():
        now[backend] += served
    compiled = _compiled()
    for rows in compiled.variants().values() if compiled else ():
        for isa, served in rows.items():
            now[f"native.{isa}"] += served
    return now


@functools.cache
def _compiled() -> ModuleType | None:
    """The module as it was found first: a test may put another in its place while it runs."""
    return native.module() if native.missing() is None else None


def ran_since(before: Snapshot) -> list[str]:
    """The names whose counter has risen."""
    return sorted(snapshot() - before)


def expected() -> list[str]:
    """What a whole run must have used on this machine, whatever its GPU: the backends of the CPU."""
    return ["torch", "numba", "native", *(f"native.{isa}" for isa in native.isas())]


def lines(tests: Counter[str]) -> list[str]:
    """One line for each backend and instruction set, those without a test too.

    >>> lines(Counter({"torch": 2}))[-1]
    'torch             2'
    """
    names = [*BACKENDS, *(f"native.{isa}" for isa in native.isas())]
    names = [n for b in BACKENDS for n in sorted(n for n in names if n.partition(".")[0] == b)]
    return [f"{name:<13}{tests[name]:>6}" for name in names]


def without_tests(tests: Counter[str]) -> list[str]:
    """What should have run and did not.

    >>> "torch" in without_tests(Counter())
    True
    """
    return [name for name in expected() if not tests[name]]
