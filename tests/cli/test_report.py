"""`report`: from saved results to a page; what is missing is said; errors are plain text."""

from __future__ import annotations

import json
import re

import numpy
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib for the pictures")
WEIGHTS = ("--model", "my_models:network", "--checkpoint", "weights.safetensors", "--data", "data.npz")


def test_a_result_becomes_a_whole_page(here, run, pruned):
    ran = run("report", "out", *WEIGHTS, "--out", "page", "--json")
    assert ran.code == 0, ran.err
    made = json.loads((here / "page" / "report.json").read_text())
    assert ran.json == {"page": "page/report.html", "verdict": made["verdict"], "notes": [], "results": 1}
    test = {row["method"]: row["accuracy"] for row in made["measures"] if row["part"] == "test"}
    wanted = {row["method"]: row["test_accuracy"] for row in pruned.json["rows"]}
    assert test == {"dense": pytest.approx(wanted["dense"]), "magnitude": pytest.approx(wanted["magnitude"]),
                    "auto": pytest.approx(wanted["optimized"])}


def test_results_are_found_however_deep_and_what_is_missing_is_said(here, run, pruned):
    (here / "all" / "a").mkdir(parents=True)
    (here / "out").rename(here / "all" / "a" / "b")
    ran = run("report", "all", "all/a/b/mask.safetensors", "--out", "page")
    assert ran.code == 0, ran.err
    assert len(json.loads((here / "page" / "report.json").read_text())["runs"]) == 2
    assert ran.out.splitlines()[0].startswith("At 80 % sparsity")
    assert "give the network, model= or --model" in ran.out
    assert ran.out.splitlines()[-1].startswith("wrote page/report.html")


WRONG = {
    "nothing there": (("report", "empty"), r"there is no mask\.safetensors in this folder"),
    "no such folder": (("report", "nowhere"), "nowhere"),
    "data alone": (("report", "out", "--data", "data.npz"), "need the network"),
    "other weights": (("report", "out", "--model", "my_models:network"), "no result was found for"),
    "other data": (("report", "out", *WEIGHTS[:4], "--data", "other.npz"), "not the data of the search"),
    "does not fit": (("report", "out", "--model", "my_models:wider", "--data", "data.npz"), "cannot take the samples"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_and_nothing_is_written(here, run, pruned, case):
    (here / "empty").mkdir()
    held = numpy.load("data.npz")
    numpy.savez("other.npz", x=held["x_train"][::-1] * 2, y=held["y_train"])
    arguments, text = WRONG[case]
    ran = run(*arguments, "--out", "page")
    assert ran.code == 1
    assert re.search(text, ran.err), ran.err
    assert not (here / "page").exists()
