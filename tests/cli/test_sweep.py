"""`sweep`, and how `prune` goes on and starts elsewhere, on files."""

from __future__ import annotations

import re

import pytest

from optprune_fast.recipe.result import Result
from optprune_fast.recipe.sweep import Sweep
from optprune_fast.search.swaps import SwapSearch

NET = ("my_models:network", "--checkpoint", "weights.safetensors", "--data", "data.npz")
SWEEP = ("sweep", *NET, "--sparsities", "0.5,0.8", "--evaluations", "100", "--out", "curve")
PRUNE = ("prune", *NET, "--sparsity", "0.8", "--evaluations", "100")


def test_sweep_saves_what_it_reports(here, run):
    ran = run(*SWEEP, "--json")
    assert ran.code == 0, ran.err
    found, report = Sweep.load("curve"), ran.json
    assert [row["sparsity"] for row in report["rows"]] == report["sparsities"] == [0.5, 0.8]
    assert [row["kept"] for row in report["rows"]] == [120, 48]
    assert [row["front"] for row in report["rows"]] == [result in found.front for result in found.results]
    for row, result in zip(report["rows"], found.results, strict=True):
        assert row["fitness"] == result.fitness
        assert row["optimized"]["held_out_loss"] == pytest.approx(result.fitness, rel=1e-6)
        assert row["magnitude"]["held_out_loss"] == pytest.approx(result.baseline, rel=1e-6)
    assert report["dense"]["test_accuracy"] == 1.0


def test_sweep_prints_a_row_a_sparsity_and_goes_on_after_ctrl_c(here, run, monkeypatch):
    ask = SwapSearch.ask

    def interrupted(strategy):
        if strategy.problem.budget == 48:
            raise KeyboardInterrupt
        return ask(strategy)

    monkeypatch.setattr(SwapSearch, "ask", interrupted)
    assert "stopped; the same command goes on" in run(*SWEEP).out
    monkeypatch.setattr(SwapSearch, "ask", ask)
    out = run(*SWEEP).out
    assert all(text in out for text in ("dense", "50.00%", "80.00%", "accuracy (test)", "saved curve"))
    assert "stopped" not in out
    assert [result.stopped_by for result in Sweep.load("curve").results] == ["evaluations"] * 2


@pytest.mark.parametrize(("options", "text"), [
    (("--sparsities", "0.5;0.8"), "--sparsities must be numbers with commas between\n.*\nfor example 0.5,0.9"),
    (("--sparsities", "0.8,0.5"), "sparsities must ascend"),
    (("--sparsities", "0.5,2"), r"sparsity must lie in \[0, 1\)"),
    (("--out", "data.npz"), "folder must be a folder"),
])
def test_sweep_says_what_is_wrong(here, run, options, text):
    ran = run(*SWEEP, *options)
    assert (ran.code, ran.out) == (1, "")
    assert re.search(text, ran.err), ran.err


def test_prune_goes_on_from_its_journal(here, run):
    whole = run(*PRUNE, "--out", "whole", "--journal", "journal", "--json").json
    again = run(*PRUNE, "--out", "again", "--journal", "journal", "--json").json
    assert again["seconds"] == whole["seconds"]  # read, not run
    assert Result.load("again").mask == Result.load("whole").mask
    assert re.search("journal of another run: .*seed.* differ", run(*PRUNE, "--journal", "journal", "--seed", "1").err)


def test_prune_starts_where_it_is_told(here, run):
    run(*PRUNE, "--out", "first")
    run("prune", *NET, "--sparsity", "0.8", "--evaluations", "1", "--out", "second", "--start", "first")
    assert Result.load("second").fitness == Result.load("first").fitness
    assert run(*PRUNE, "--start", "erk", "--out", "third").code == 0
    ran = run(*PRUNE, "--start", "nowhere")
    assert ran.code == 1
    assert "--start must be one of magnitude, global, uniform, erk, lamp, or the folder of a result" in ran.err


@pytest.mark.parametrize("strategy", ["annealing", "straight_through", "levels"])
def test_prune_takes_every_strategy(here, run, strategy):
    ran = run(*PRUNE, "--out", strategy, "--strategy", strategy)
    assert ran.code == 0, ran.err
    assert Result.load(strategy).strategy == strategy
