"""A variable is what the environment says now, whoever reads it."""

from __future__ import annotations

import os

import pytest

from optprune_fast.runtime import environment, native

NAME = "OPTPRUNE_OF_A_TEST"


@pytest.fixture(params=["compiled", "plain"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "plain":
        monkeypatch.setattr(environment, "_reader", lambda: os.environ.get)
    elif native.missing() is not None:
        pytest.skip(f"needs the compiled module: {native.missing()}")
    else:
        assert environment._reader() == native.module().variable


@pytest.mark.usefixtures("reader")
def test_it_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.variable(NAME) is None
    for value in ("scalar", "", "größer"):
        monkeypatch.setenv(NAME, value)
        assert environment.variable(NAME) == value
    monkeypatch.delenv(NAME)
    assert environment.variable(NAME) is None
