"""Choices made by time: kept, read by others, and never trusted where the file is not what it should be."""

from __future__ import annotations

import json
import os

import pytest
import torch

from optprune_fast.ops import triton_tune
from optprune_fast.ops.triton_support import Launch, Product
from optprune_fast.runtime import autotune
from optprune_fast.runtime.doctor import doctor
from optprune_fast.runtime.errors import FallbackWarning

PRODUCTS = [Product(Launch(tile, 16, warps=4, stages=2), False, {}) for tile in (32, 64, 128)]


@pytest.fixture
def place(monkeypatch, tmp_path):
    monkeypatch.setenv("OPTPRUNE_AUTOTUNE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(triton_tune, "timed_on", lambda device: "a card 9.0")
    return tmp_path / "optprune_fast" / "launches.json"


@pytest.fixture
def asked(monkeypatch):
    """asked(best, …): the tile that is chosen where `best` is the fastest, and how many launches were timed."""
    def ask(best, **options):
        launched = []
        monkeypatch.setattr(triton_tune, "timer", lambda run: (run(), abs(launched[-1] - best))[1])
        given = {"kernel": "masked_linear", "x": torch.zeros(1), "precision": "tf32", "inputs": 300, **options}
        found = triton_tune.fastest(given.pop("kernel"), PRODUCTS, lambda how: launched.append(how.launch.tile_b),
                                    given.pop("x"), given.pop("precision"), **given)
        return found.launch.tile_b, len(launched)
    return ask


def another_process():
    autotune._read.clear()


def test_the_fastest_is_chosen_once_and_known_to_other_processes(place, asked):
    assert asked(64) == (64, 3)
    assert asked(128) == (64, 0)
    another_process()
    assert asked(128) == (64, 0)
    assert asked(128, inputs=257) == (64, 0)  # within a factor of two
    for other in ({"inputs": 1000}, {"precision": "tf32x3"}, {"kernel": "masked_conv2d"}, {"x": torch.zeros(1).half()}):
        assert asked(128, **other) == (128, 3)
    assert len(json.loads(place.read_text())["choices"]) == 5


@pytest.mark.parametrize("what", ["timed_on", "__version__"])
def test_a_choice_serves_the_device_and_the_versions_that_it_was_timed_on(place, asked, monkeypatch, what):
    asked(64)
    monkeypatch.setattr(triton_tune, what, (lambda device: "another 9.0") if what == "timed_on" else "0.0.0")
    assert asked(128) == (128, 3)


def test_choices_of_other_processes_stay(place, asked):
    asked(64)
    document = json.loads(place.read_text())
    document["choices"]["theirs"] = "32x16"
    place.write_text(json.dumps(document))
    asked(32, inputs=5000)
    assert json.loads(place.read_text())["choices"]["theirs"] == "32x16"


@pytest.mark.parametrize("content", [
    "", "{", "[]", '"text"', '{"format": "another", "version": 1, "choices": {}}', '{"format": 1}', "\xff\xfe",
    '{"format": "optprune_fast.launches", "version": 2, "choices": {}}',
    '{"format": "optprune_fast.launches", "version": 1, "choices": []}',
    '{"format": "optprune_fast.launches", "version": 1, "choices": {"key": 3}}'])
def test_a_file_that_is_damaged_or_not_ours_is_a_warning_and_replaced(place, asked, content):
    place.parent.mkdir()
    place.write_bytes(content.encode("latin-1"))
    another_process()
    with pytest.warns(FallbackWarning, match="launches.json cannot be read .*, so launches are timed anew"):
        assert asked(64) == (64, 3)
    another_process()
    assert asked(128) == (64, 0)


def test_a_choice_that_is_not_shipped_is_timed_anew(place, asked):
    asked(64)
    document = json.loads(place.read_text())
    document["choices"] = dict.fromkeys(document["choices"], "1024x1024, 32 warps, 9 stages")
    place.write_text(json.dumps(document))
    another_process()
    assert asked(128) == (128, 3)


@pytest.mark.skipif(os.name != "posix", reason="folders are files here")
def test_a_folder_that_cannot_be_made_is_a_warning_and_the_choice_serves_this_process(place, asked):
    place.parent.write_text("a file in the place of the folder")
    with pytest.warns(FallbackWarning, match="choices cannot be kept in .*XDG_CACHE_HOME names another folder"):
        assert asked(64) == (64, 3)
    assert asked(128) == (64, 0)


def test_nothing_is_timed_without_the_variable_or_without_a_gpu(place, asked, monkeypatch):
    monkeypatch.setenv("OPTPRUNE_AUTOTUNE", "0")
    assert asked(64) == (32, 0)
    monkeypatch.setenv("OPTPRUNE_AUTOTUNE", "1")
    monkeypatch.undo()
    assert triton_tune.timed_on(torch.device("cpu")) == ""
    assert not place.exists()


def test_another_value_is_an_error_and_the_doctor_says_where_choices_lie(place, asked, monkeypatch):
    said = str(doctor())
    assert "OPTPRUNE_AUTOTUNE=1" in said
    assert f"launches are chosen by time, and kept in {place}" in said
    monkeypatch.setenv("OPTPRUNE_AUTOTUNE", "yes")
    with pytest.raises(ValueError, match="OPTPRUNE_AUTOTUNE must be one of 0, 1, not 'yes'"):
        asked(64)
    assert "INVALID: OPTPRUNE_AUTOTUNE must be one of 0, 1, not 'yes'" in str(doctor())
