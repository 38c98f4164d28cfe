"""prune → inspect → eval on files, as text and as JSON."""

from __future__ import annotations

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

from optprune_fast.models import MLP
from optprune_fast.recipe.result import Result

PRUNE = ("prune", "my_models:network", "--checkpoint", "weights.safetensors", "--sparsity", "0.8", "--out", "out")
EVAL = ("eval", "out", "my_models:network")
N, BUDGET = 12 * 16 + 16 * 3, 48


def test_prune_saves_what_it_reports(pruned):
    result, report = Result.load("out"), pruned.json
    assert [row["method"] for row in report["rows"]] == ["dense", "magnitude", "optimized"]
    assert [row["kept"] for row in report["rows"]] == [N, BUDGET, BUDGET]
    assert report["budget"] == result.budget == BUDGET
    assert report["fitness"] == result.fitness <= report["baseline"] == result.baseline
    assert report["evaluations"] == 200
    assert report["kept_small"] == result.kept_small > 0


def test_the_table_of_prune_is_of_the_part_that_selected(pruned):
    rows = {row["method"]: row for row in pruned.json["rows"]}
    assert rows["optimized"]["held_out_loss"] == pytest.approx(pruned.json["fitness"], rel=1e-6)
    assert rows["magnitude"]["held_out_loss"] == pytest.approx(pruned.json["baseline"], rel=1e-6)
    assert rows["dense"]["held_out_accuracy"] == rows["dense"]["test_accuracy"] == 1.0


def test_test_data_do_not_change_the_choice(pruned, run):
    """Other test data, or none: the same mask."""
    mask = Result.load("out").mask
    ran = run(*PRUNE[:-1], "other", "--evaluations", "200", "--data", "train.npz", "--json")
    assert ran.json["rows"][0]["test_accuracy"] is None
    assert Result.load("other").mask == mask


def test_an_evaluation_limit_alone_has_no_time_limit(pruned):
    assert pruned.json["stopped_by"] == "evaluations"


def test_time_limit_ends_the_search(here, run):
    ran = run(*PRUNE, "--data", "data.npz", "--time-limit", "0.05", "--json")
    assert ran.json["stopped_by"] == "time"


def test_validation_data_of_ones_own_select(here, run):
    ran = run(*PRUNE, "--data", "data.npz", "--validation", "train.npz", "--evaluations", "50", "--json")
    assert ran.json["held_out"] == "validation data of the caller"
    assert ran.json["rows"][2]["held_out_loss"] == pytest.approx(ran.json["fitness"], rel=1e-6)


def test_options_reach_the_search(here, run):
    ran = run(*PRUNE, "--data", "data.npz", "--evaluations", "100", "--strategy", "genetic", "--small", "0.25",
              "--pool", "0.5", "--seed", "3", "--objective", "error", "--backend", "torch", "--json")
    assert ran.code == 0, ran.err
    result = Result.load("out")
    assert (result.strategy, result.small, result.seed, result.objective) == ("genetic", 0.25, 3, "error")
    assert int(result.core.count()) == BUDGET - BUDGET // 4


def test_prune_prints_a_table_and_says_when_test_data_came(here, run):
    ran = run(*PRUNE, "--data", "data.npz", "--evaluations", "50")
    assert all(text in ran.out for text in ("dense", "magnitude", "optimized", "accuracy (test)", "saved out"))
    assert "selected on: a seeded 10% of the data; test data came after the selection" in ran.out
    ran = run(*PRUNE, "--data", "train.npz", "--evaluations", "50")
    assert "test" not in ran.out


def test_ctrl_c_keeps_the_best_so_far(here, run, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("optprune_fast.search.swaps.SwapSearch.ask", interrupted)
    ran = run(*PRUNE, "--data", "data.npz", "--json")
    assert (ran.code, ran.json["stopped_by"]) == (0, "interrupt")
    assert Result.load("out").budget == BUDGET


def test_inspect_adds_up(pruned, run):
    report = run("inspect", "out", "--json").json
    assert [(x["name"], x["shape"]) for x in report["layers"]] == [("layers.0.weight", [16, 12]),
                                                                  ("layers.1.weight", [3, 16])]
    assert sum(x["kept"] for x in report["layers"]) == report["budget"] == BUDGET
    assert sum(x["kept_small"] for x in report["layers"]) == report["kept_small"] == pruned.json["kept_small"]
    assert (report["fitness"], report["baseline"]) == (pruned.json["fitness"], pruned.json["baseline"])


def test_inspect_prints_layers_and_origin(pruned, run):
    out = run("inspect", "out/mask.safetensors").out
    for text in ("layers.0.weight", "16×12", "strategy auto, seed 0", Result.load("out").base_digest,
                 "a seeded 10% of the data"):
        assert text in out


def test_eval_judges_on_the_test_part(pruned, run):
    report = run(*EVAL, "--checkpoint", "weights.safetensors", "--data", "data.npz", "--json").json
    assert (report["part"], report["samples"], report["weights_as_found"]) == ("test", 30, True)
    assert [row["method"] for row in report["rows"]] == ["dense", "magnitude", "mask"]
    assert [row["accuracy"] for row in report["rows"]] == [row["test_accuracy"] for row in pruned.json["rows"]]


def test_eval_agrees_with_the_pruned_model(pruned, run):
    report = run(*EVAL, "--checkpoint", "weights.pt", "--data", "data.npz", "--json").json
    net = MLP([12, 16, 3])
    net.load_state_dict(load_file("weights.safetensors"))
    Result.load("out").apply_to(net)
    from optprune_fast.data import load

    x, y = load("data.npz").test
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(net(x), y)
    assert report["rows"][2]["loss"] == pytest.approx(float(loss), rel=1e-5)


def test_eval_says_which_part_it_used(pruned, run):
    assert "train part, 200 samples" in run(*EVAL, "--checkpoint", "weights.pt", "--data", "train.npz").out
    assert "test part, 30 samples" in run(*EVAL, "--checkpoint", "weights.pt", "--data", "data.npz").out


def test_eval_refuses_other_weights_until_told(pruned, run):
    state = {name: value + 0.01 for name, value in load_file("weights.safetensors").items()}
    save_file(state, "tuned.safetensors")
    ran = run(*EVAL, "--checkpoint", "tuned.safetensors", "--data", "data.npz")
    assert ran.code == 1
    assert "the model's weights are not those that the mask was found for" in ran.err
    ran = run(*EVAL, "--checkpoint", "tuned.safetensors", "--data", "data.npz", "--allow-changed-weights")
    assert ran.code == 0
    assert "the weights have changed since" in ran.out


def test_a_factory_that_draws_its_weights_draws_the_same_again(here, run):
    assert run("prune", "my_models:network", "--data", "data.npz", "--out", "out", "--evaluations", "20").code == 0
    ran = run(*EVAL, "--data", "data.npz", "--json")
    assert ran.json["weights_as_found"] is True


def test_one_flipped_bit_is_found(pruned, run):
    path = "out/mask.safetensors"
    raw = numpy.fromfile(path, "uint8")
    raw[-1] ^= 1
    raw.tofile(path)
    ran = run("inspect", "out")
    assert ran.code == 1
    assert path in ran.err
    assert "Traceback" not in ran.err
