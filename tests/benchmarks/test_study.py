"""The study: a small one runs end to end, goes on where it was stopped, and keeps its data apart."""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial

import pytest
import torch

from benchmarks import report
from benchmarks.study import networks, run
from benchmarks.study.measure import interrupts_kept
from benchmarks.study.networks import NETWORKS, Network, Sources
from benchmarks.study.plan import AUTO, DENSE, MAGNITUDE, OTHER_SEED, RANDOM, Cell, Plan, cells
from optprune_fast.bench.machine import on_threads
from optprune_fast.data import Dataset
from optprune_fast.models import MLP
from optprune_fast.runtime.files import load_tensors
from optprune_fast.search import STRATEGIES
from optprune_fast.testing.tolerance import assert_as_accurate

pytestmark = pytest.mark.usefixtures("one_thread")
PLAN = Plan(networks=("toy",), seeds=(0,), sparsities=(0.6,), strategies=(AUTO, "genetic"), seconds=0.05,
            evaluations=20, tune_epochs=1)
SHORT = replace(PLAN, strategies=("genetic",), seconds=None)
EXACT = ("kept", "kept_small", "calibration_loss", "validation_loss", "test_loss", "test_accuracy")


def toy(sources, test_targets=None):
    inputs = torch.randn(260, 6, generator=torch.Generator().manual_seed(0))
    targets = inputs[:, :3].argmax(1)
    test = inputs[200:], targets[200:] if test_targets is None else test_targets
    return Dataset("toy", (inputs[:200], targets[:200]), test, 3, ("0", "1", "2"), (0.0,), (1.0,))


@pytest.fixture(autouse=True, scope="module")
def toy_network():
    fit = partial(networks.sgd, lr=0.1, momentum=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "toy", Network("a toy", toy, partial(MLP, (6, 8, 3)), fit, 3))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, toy_network):
    """The rows of a study that nobody stopped, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    with on_threads(1):  # training on another number of threads rounds differently
        return run.study(PLAN, Sources(), folder, silent), folder


def silent(line):
    pass


def same_cells(rows, whole):
    """Pairs of a row and the row of the same cell in the whole study."""
    names = [field.name for field in fields(Cell)]
    known = {tuple(row[name] for name in names): row for row in whole}
    return [(row, known[tuple(row[name] for name in names)]) for row in rows]


def test_a_small_study_has_every_method_with_and_without_tuning(whole):
    rows, folder = whole
    assert {row["method"] for row in rows} == {DENSE, MAGNITUDE, OTHER_SEED, RANDOM, AUTO, "genetic"}
    assert {row["small"] for row in rows if row["method"] == AUTO} == {1.0, 0.3}
    assert len(rows) == 2 * (1 + 2 + 5) + 5  # the five at equal evaluations are not tuned
    assert all(row["kept"] == (72 if row["method"] == DENSE else 72 - round(0.6 * 72)) for row in rows)
    assert all(row["tuned"] == bool(row["tuning_seconds"]) for row in rows)
    for control in (row for row in rows if row["method"] == RANDOM):
        told = ("small", "seconds", "evaluations", "tuned")
        counted = next(r for r in rows if r["method"] == AUTO and all(r[name] == control[name] for name in told))
        assert control["kept_small"] == counted["kept_small"]
    assert not list(folder.rglob("journal"))
    assert not list(folder.rglob(".*.aside*"))


def test_a_stopped_study_goes_on_and_runs_no_cell_twice(whole, tmp_path, monkeypatch):
    measure, ran = run.measure, []

    def stops(cell, subject):
        if len(ran) in (2, 4):
            ran.append(None)
            raise KeyboardInterrupt
        ran.append(cell)
        return measure(cell, subject)

    monkeypatch.setattr(run, "measure", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run.study(SHORT, Sources(), tmp_path, silent)
    rows = run.study(SHORT, Sources(), tmp_path, silent)
    assert [cell for cell in ran if cell] == list(cells(SHORT, "toy", 0))
    for row, other in same_cells(rows, whole[0]):
        assert all(row[name] == other[name] for name in EXACT)


def test_test_data_change_nothing_but_test_figures(whole, tmp_path, monkeypatch):
    wrong = partial(toy, test_targets=torch.zeros(60, dtype=torch.int64))
    monkeypatch.setitem(NETWORKS, "toy", replace(NETWORKS["toy"], data=wrong))
    for row, other in same_cells(run.study(SHORT, Sources(), tmp_path, silent), whole[0]):
        assert all(row[name] == other[name] for name in EXACT if not name.startswith("test"))
        assert row["test_loss"] != other["test_loss"]


def test_calibration_and_validation_are_apart_and_complete():
    data = toy(Sources())
    own = networks.parts(data, seed=3)
    together = torch.cat([own.calibration[0], own.validation[0]])
    assert len(own.validation[0]) == 20
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, data.train[0].tolist()))


def test_a_network_comes_from_its_file_unless_it_was_trained_differently(tmp_path):
    calls = []

    def counted(model, data, epochs, seed, lr):
        calls.append(seed)
        networks.sgd(model, data, epochs, seed, lr=lr, momentum=0.0)

    network = replace(NETWORKS["toy"], fit=partial(counted, lr=0.1))
    data, path = networks.parts(toy(Sources()), 0).calibration, tmp_path / "a.safetensors"
    first, again = (networks.trained(network, data, 0, 2, None, path) for _ in range(2))
    assert calls == [0]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"trained differently \(counted .*, 2 epochs, .*, not .*, 3 epochs, .*\): use "
                                         "another --out"):
        networks.trained(network, data, 0, 3, None, path)


def test_sgd_takes_the_steps_of_its_rule():
    """Full batches, so that the order does not matter: two steps with momentum, by hand."""
    x, y = torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([1, 1, 0])
    model = torch.nn.Linear(1, 2, bias=False)
    start = model.weight.detach().clone()
    networks.sgd(model, (x, y), 2, 0, lr=0.1, momentum=0.5, batch_size=3)

    def by_hand(dtype):
        weight, inputs, velocity = start.to(dtype), x.to(dtype), 0.0
        for _ in range(2):
            chance = (inputs @ weight.T).softmax(1)
            velocity = 0.5 * velocity + (chance - torch.nn.functional.one_hot(y, 2)).T @ inputs / 3
            weight = weight - 0.1 * velocity
        return weight

    assert_as_accurate(model.weight.detach(), by_hand(torch.float32), by_hand(torch.float64), terms=6, magnitude=2.0)


def test_absent_data_skip_the_network_with_a_line(tmp_path):
    lines = []
    assert run.study(Plan(networks=("mlp-40-20", "resnet20")), Sources(tmp_path), tmp_path, lines.append) == []
    assert [line.partition(":")[0] for line in lines] == ["mlp-40-20 skipped", "resnet20 skipped"]
    assert "--cifar FOLDER" in lines[1]


def test_an_augmented_picture_is_a_shifted_one_or_its_mirror_image():
    x = torch.arange(2 * 25, dtype=torch.float32).view(2, 1, 5, 5) + 1
    seen = set()
    for seed in range(30):
        new = networks._augmented(x, torch.Generator().manual_seed(seed))
        assert new.shape == x.shape
        for picture, old in zip(new, x, strict=True):
            crops = [torch.nn.functional.pad(p, (4,) * 4)[..., d:d + 5, r:r + 5] for p in (old, old.flip(2))
                     for d in range(9) for r in range(9)]
            where = [i for i, crop in enumerate(crops) if torch.equal(crop, picture)]
            assert where
            seen.add(where[0])
    assert len(seen) > 10
    assert min(seen) < 81 <= max(seen)


def test_an_interrupt_that_was_swallowed_is_raised_at_the_end():
    before = signal.getsignal(signal.SIGINT)

    def swallowing():
        with interrupts_kept(), suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        swallowing()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_whole_study_has_every_strategy_at_equal_seconds_and_at_equal_evaluations():
    found = list(cells(Plan(networks=("toy",), sparsities=(0.9,)), "toy", 0))
    for limit in ("seconds", "evaluations"):
        assert {AUTO, *STRATEGIES} <= {cell.method for cell in found if getattr(cell, limit)}


def test_different_cells_have_different_files():
    plan = Plan(networks=("toy",), seconds=2.0)
    found = [cell for seed in plan.seeds for cell in cells(plan, "toy", seed)]
    assert len({cell.path for cell in found}) == len(found)
    assert Cell("toy", 0, 0.9, AUTO, 1.0, 2.0).path != Cell("toy", 0, 0.9, AUTO, 1.0, 3.0).path


def test_without_controls_only_the_searches_are_left():
    found = list(cells(Plan(networks=("toy",), sparsities=(0.9,), strategies=(AUTO,), evaluations=None, tune_epochs=0,
                            controls=False), "toy", 0))
    assert [(cell.method, cell.small) for cell in found] == [(DENSE, None), (MAGNITUDE, None), (AUTO, 1.0)]


def test_the_command_writes_its_document_and_its_section_only(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run.main(["--quick", "--networks", "toy", "--seconds", "0", "--evaluations", "10", "--strategies", "genetic",
              "--seeds", "0", "--epochs", "3", "--tune-epochs", "0"])
    trained = load_tensors(tmp_path / "runs" / "study_quick" / "networks" / "toy-0.safetensors", kind="network")[1]
    assert ", 3 epochs," in trained["recipe"]
    document = json.loads((tmp_path / "runs" / "study_quick" / "study.json").read_text())
    assert document["kind"] == "study"
    assert document["machine"]["threads"] == 1
    assert "**a toy**, 1 network, " in capsys.readouterr().out
    page = tmp_path / "RESULTS.md"
    page.write_text("a <!-- study table --><!-- /study table --> b <!-- moves table -->kept<!-- /moves table -->")
    assert report.main(tmp_path / "runs" / "study_quick", tmp_path, only=("study",)) == ["study"]
    assert "**genetic**" in page.read_text()
    run.main(["--quick", "--networks", "toy", "--seconds", "0", "--evaluations", "10", "--strategies", "genetic",
              "--seeds", "0", "--epochs", "3", "--tune-epochs", "0", "--no-controls", "--name", "part"])
    assert report.main(tmp_path / "runs" / "study_quick", tmp_path, only=("study",)) == ["study"]
    assert page.read_text().count("**a toy**, 1 network, ") == 2
    assert page.read_text().endswith("<!-- moves table -->kept<!-- /moves table -->")
