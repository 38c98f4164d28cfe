"""The demo, quickly: everything is written, and budgets are equal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from optprune_fast.cli.experiment import Plan, network, random_small
from optprune_fast.masks.magnitude import magnitude
from optprune_fast.recipe.prune import prune
from optprune_fast.recipe.result import Result

pytest.importorskip("sklearn", reason="needs scikit-learn for the digits")
pytest.importorskip("matplotlib", reason="needs matplotlib for the picture")
KEYS = {"sparsity", "seed", "method", "kept", "kept_small", "test_accuracy", "seconds", "small"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from typer.testing import CliRunner

    from optprune_fast.cli.app import app

    out = tmp_path_factory.mktemp("demo")
    ran = CliRunner().invoke(app, ["demo", "--quick", "--out", str(out)], catch_exceptions=False)
    assert ran.exit_code == 0, ran.stderr
    (out / "printed").write_text(ran.stdout)
    return out


@pytest.fixture(scope="module")
def rows(folder):
    return json.loads((folder / "summary.json").read_text())


def test_summary_has_a_row_for_every_run(rows):
    assert all(set(row) == KEYS for row in rows)
    assert len(rows) == 3 * (2 + 2 * 2)
    assert {row["method"] for row in rows} == {"dense", "magnitude", "optimized", "random_small"}
    assert {row["sparsity"] for row in rows} == {0.9, 0.95, 0.98}
    assert all(0 <= row["test_accuracy"] <= 1 for row in rows)


def test_budgets_are_exactly_equal(rows):
    for sparsity, budget in ((0.9, 646), (0.95, 323), (0.98, 129)):
        pruned = [row for row in rows if row["sparsity"] == sparsity and row["method"] != "dense"]
        assert {row["kept"] for row in pruned} == {budget}


def test_the_control_keeps_as_many_small_weights(rows):
    small = {(row["method"], row["sparsity"], row["small"]): row["kept_small"] for row in rows}
    pairs = [(count, small["random_small", sparsity, share])
             for (method, sparsity, share), count in small.items() if method == "optimized"]
    assert len(pairs) == 6
    assert all(optimized == control for optimized, control in pairs)
    assert all(count == 0 for (method, *_), count in small.items() if method == "magnitude")


def test_every_mask_is_saved_with_its_budget_and_core(folder, rows):
    for row in rows:
        if row["method"] == "optimized":
            place = folder / f"{row['sparsity']:g}" / "0"
            result = Result.load(place if row["small"] == 1 else place / "small_0.3")
            assert (result.budget, result.kept_small) == (row["kept"], row["kept_small"])
            assert int(result.core.count()) == result.budget - int(row["small"] * result.budget)


def test_saved_masks_can_be_evaluated_again(folder, rows, run):
    ran = run("eval", folder / "0.9" / "0", "optprune_fast.cli.experiment:network", "--data", "digits",
              "--checkpoint", folder / "networks" / "0.safetensors", "--json")
    assert ran.code == 0, ran.err
    told = [row["test_accuracy"] for row in rows[:3]]
    assert [row["accuracy"] for row in ran.json["rows"]] == pytest.approx(told, rel=1e-6)


def test_the_picture_is_drawn_and_the_table_printed(folder):
    assert (folder / "demo.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    printed = (folder / "printed").read_text()
    assert all(text in printed for text in ("dense", "magnitude", "optimized", "random_small", "90 %", "98 %"))


def test_the_control_holds_the_core_and_small_weights_at_random():
    torch.manual_seed(0)
    net = network()
    x = torch.randn(100, 64)
    result = prune(net, (x, net(x).argmax(1)), 0.9, small=0.3, evaluations=400, time_limit=None)
    control, other = (random_small(net, result, seed) for seed in (1, 2))
    large = magnitude(net, 0.9).mask
    assert result.kept_small > 1
    assert int(control.count()) == result.budget
    assert result.budget - int(control.overlap(large)) == result.kept_small
    assert control.overlap(result.core) == result.core.count()
    assert control != other


def test_the_plan_is_the_one_announced():
    plan = Plan()
    assert (plan.seeds, plan.sparsities, plan.smalls) == (5, (0.90, 0.95, 0.98), (1.0, 0.3))


@pytest.mark.parametrize(("arguments", "text"), [(("--seeds", 0), "--seeds must be at least 1"),
                                                 (("--out", __file__), "--out must be a folder")])
def test_demo_says_what_is_wrong(run, arguments, text):
    ran = run("demo", *arguments)
    assert ran.code == 1
    assert text in ran.err
