"""The numbers of a report are those of the results, the evaluator and the masks."""

from __future__ import annotations

import copy

import pytest
import torch

from optprune_fast.engine.batches import collect, split
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.magnitude import magnitude
from optprune_fast.report import swaps
from optprune_fast.report.document import document
from optprune_fast.report.judges import Judges, masks_of
from optprune_fast.report.layers import by_size
from optprune_fast.report.runs import in_order
from optprune_fast.report.verdict import verdict


def made_of(results, model=None, data=None, test=None, **more):
    runs = in_order(results)
    return document(runs, Judges(runs, model, data, more.get("validation"), test, more.get("objective")))


@pytest.fixture(scope="module")
def made(problem):
    return made_of(problem.results, problem.nets, problem.data, problem.test)


def only(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_runs_stand_in_order_and_hold_what_the_results_hold(made, problem):
    keys = [(row["sparsity"], row["small"], row["seed"]) for row in made["runs"]]
    assert keys == [(0.6, 1.0, 0), (0.6, 1.0, 1), (0.8, 1.0, 0), (0.8, 1.0, 1), (0.8, 0.5, 0)]
    first = next(r for r in problem.results if (r.sparsity, r.seed) == (0.6, 0))
    assert (made["runs"][0]["fitness"], made["runs"][0]["kept_small"]) == (first.fitness, first.kept_small)


def test_accuracies_are_those_of_the_evaluator_on_each_part(made, problem):
    result = problem.results[3]  # 0.8, the second network
    calibration, validation = split(collect(problem.data), 0.1, result.seed)
    for part, data in (("calibration", calibration), ("validation", validation), ("test", problem.test)):
        wanted = Evaluator(problem.nets[1], data).metrics(masks_of(result))
        rows = only(made["measures"], network=result.base_digest, sparsity=0.8, part=part)
        assert [row["method"] for row in rows] == ["dense", "magnitude", "auto"]
        for column in ("loss", "accuracy"):
            torch.testing.assert_close(torch.tensor([row[column] for row in rows]), wanted[column])


def test_methods_of_one_network_share_its_baselines(made, problem):
    digest = problem.results[0].base_digest
    rows = only(made["measures"], network=digest, sparsity=0.8, part="test")
    assert [row["method"] for row in rows] == ["dense", "magnitude", "auto", "auto"]
    cell, = only(made["curves"], sparsity=0.8, method="magnitude", part="test", quantity="accuracy")
    assert cell["runs"] == 2  # networks, not runs


def test_curves_are_means_over_the_measures(made):
    for curve in made["curves"]:
        values = [row[curve["quantity"]] for row in only(made["measures"], sparsity=curve["sparsity"],
                                                         part=curve["part"])
                  if row["method"] == curve["method"].split(",")[0] and (row["small"] == 0.5) == ("0.5" in
                                                                                                  curve["method"])]
        assert curve["runs"] == len(values)
        assert curve["mean"] == pytest.approx(sum(values) / len(values))


def test_without_data_the_saved_losses_are_shown(problem):
    made = made_of(problem.results)
    assert made["runs"][2]["calibration"] == problem.results[2].calibration_fitness > 0
    assert {(row["part"], row["method"]) for row in made["measures"]} == {
        ("calibration", "auto"), ("validation", "auto"), ("validation", "magnitude")}
    assert made["headline"] == {"quantity": "loss", "part": "validation"}
    assert (made["histogram"], made["swaps"], made["thresholds"]) == ([], [], [])
    assert [any(word in note for note in made["notes"]) for word in ("--model", "--data", "test=")] == [True] * 3


def test_layers_add_up_to_the_budget(made, problem):
    for run in made["runs"]:
        rows = only(made["layers"], run=run["run"])
        assert sum(row["kept"] for row in rows) == sum(row["kept_magnitude"] for row in rows) == run["budget"]
        assert sum(row["kept_small"] for row in rows) == run["kept_small"]
        assert all(row["density"] == row["kept"] / row["weights"] for row in rows)


def test_the_histogram_counts_every_weight_and_the_threshold_is_that_of_magnitude(made, problem):
    for number in made["shown"]:
        run, rows = made["runs"][number], only(made["histogram"], run=number)
        assert sum(row["weights"] for row in rows) == made["weights"]
        assert sum(row["kept_small"] for row in rows) == run["kept_small"]
        assert sum(row["kept_small"] + row["kept_large"] for row in rows) == run["budget"]
        net = problem.nets[run["seed"]]
        assert only(made["thresholds"], run=number)[0]["threshold"] == magnitude(net, run["sparsity"]).threshold


def test_a_bin_holds_its_lower_edge_and_the_last_its_upper():
    values = torch.tensor([0.0, 0.5, -1.0])
    rows = by_size(values, torch.tensor([False, True, True]), torch.tensor([False, True, False]))
    assert [(i, row["weights"], row["kept_large"], row["kept_small"]) for i, row in enumerate(rows)
            if row["weights"]] == [(0, 1, 0, 0), (30, 1, 0, 1), (59, 1, 1, 0)]


def test_a_gain_is_the_loss_of_the_changed_mask_minus_that_of_the_mask(made, problem):
    number = made["shown"][-1]
    seed, small = made["runs"][number]["seed"], made["runs"][number]["small"]
    result = next(r for r in problem.results if (r.sparsity, r.seed, r.small) == (0.8, seed, small))
    assert result.kept_small > 5
    calibration, validation = (Evaluator(problem.nets[seed], part)
                               for part in split(collect(problem.data), 0.1, seed))
    weights = torch.cat([w.flatten() for w in calibration.weights.values()])
    order = weights.abs().argsort(descending=True, stable=True).tolist()
    kept = set(result.mask.indices().tolist())
    rows = only(made["swaps"], run=number)
    assert len(rows) == min(swaps.TOP, result.kept_small)
    assert [row["gain"] for row in rows] == sorted((row["gain"] for row in rows), reverse=True)
    partner = next(i for i in order if i not in kept)
    for row in rows:
        assert row["index"] in kept
        assert row["exchanged_for"] == partner
        assert order[row["rank"] - 1] == row["index"]
        assert row["rank"] > result.budget  # small: beyond what magnitude pruning keeps
        assert dict(problem.nets[seed].named_parameters())[row["layer"]][tuple(row["position"])] == row["value"]
        for column, ev, move in (("gain", calibration, [row["index"], partner]),
                                 ("gain_alone", calibration, [row["index"]]),
                                 ("gain_validation", validation, [row["index"], partner])):
            changed = ev.accept(result.mask, torch.tensor(move))
            assert row[column] == pytest.approx(float(ev(changed) - ev(result.mask)), abs=2e-6)


@pytest.mark.parametrize("objective", ["cross_entropy", lambda outputs, targets: outputs.square().mean()])
def test_of_many_small_weights_the_most_promising_are_tried(problem, monkeypatch, objective):
    monkeypatch.setattr(swaps, "MOST", 5)
    result = problem.results[2]
    ev = Evaluator(problem.nets[0], problem.data, objective)
    weights = torch.cat([w.flatten() for w in ev.weights.values()])
    assert len(swaps.paying(result, weights, ev, None)) == 5 < result.kept_small


def test_a_mask_without_small_weights_has_no_swaps(problem):
    result = copy.copy(problem.results[0])
    object.__setattr__(result, "mask", result.magnitude)
    assert swaps.paying(result, torch.zeros(result.layout.n), None, None) == []


def test_the_verdict_compares_the_same_networks(problem):
    made = made_of(problem.results[:4], problem.nets[0], problem.data, problem.test)
    dense, large, ours = (only(made["measures"], sparsity=0.8, part="test", method=m)[0]["accuracy"]
                          for m in ("dense", "magnitude", "auto"))
    assert f"{100 * (dense - ours):.1f} points of test accuracy" in verdict(made)
    assert f"{100 * (dense - large):.1f}" in verdict(made)
    assert verdict(made).startswith("At 80 % sparsity the optimizer's mask loses ")
    assert any("1 of 2 networks were not given" in note for note in made["notes"])


def test_the_verdict_says_what_there_is(problem):
    made = made_of(problem.results[2])
    result = problem.results[2]
    assert made["verdict"] == (f"At 80 % sparsity the optimizer's mask has a validation loss of {result.fitness:.3g}, "
                               f"magnitude {result.baseline:.3g}.")
