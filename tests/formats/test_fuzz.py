"""A second of damaged inputs for each reader; `make fuzz` guides them by coverage, for as long as one likes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz_formats.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_formats", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("target", ["file", "planes", "streams", "foreign"])
def test_damage_is_refused_and_nothing_else_happens(fuzz, target) -> None:
    assert fuzz.run(target, 1.0, seed=1) > 20


def test_a_reader_that_fails_otherwise_is_caught(fuzz, monkeypatch, capsys) -> None:
    def fails(data):
        if data != fuzz.seeds()["planes"]:
            raise IndexError("a list index")

    monkeypatch.setitem(fuzz.TARGETS, "planes", fails)
    with pytest.raises(IndexError, match="a list index"):
        fuzz.run("planes", 10.0, seed=1)
    assert "planes: input 0 of seed 1 fails: " in capsys.readouterr().err


def test_without_atheris_it_says_so_and_makes_mutations(fuzz, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    fuzz.guided("planes", 0.2, [])
    assert "planes: Atheris is not installed" in capsys.readouterr().out
