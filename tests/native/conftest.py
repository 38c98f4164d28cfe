"""What the tests of the compiled side share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from optprune_fast.runtime import native

ROOT = Path(__file__).parents[2]


@pytest.fixture
def compiled() -> None:
    """For tests that need the compiled module: without one they have nothing to test."""
    reason = native.missing()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def forced(compiled: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """forced(isa, threads, function, *arguments): the result under this instruction set and number of threads."""

    def run(isa: str, threads: int, function: Callable[..., Any], *arguments: Any) -> Any:
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
        monkeypatch.setenv("OPTPRUNE_THREADS", str(threads))
        return function(*arguments)

    return run


@contextmanager
def _replaced(target: object, name: str, value: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, value)
        native._load.cache_clear()
        try:
            yield
        finally:
            native._load.cache_clear()


@pytest.fixture
def replaced() -> Callable[[object, str, object], AbstractContextManager[None]]:
    """`with replaced(target, name, value):` and the compiled module is looked for anew, inside and after."""
    return _replaced


@pytest.fixture
def root() -> Path:
    return ROOT
