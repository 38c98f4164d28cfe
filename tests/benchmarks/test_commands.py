"""The commands run on tiny networks and write what the report reads."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from functools import partial

import pytest
import torch

from benchmarks import report, store
from benchmarks.deploy import disk, latency, networks
from benchmarks.deploy import memory as deploy_memory
from benchmarks.masked_forward import break_even, fit_cost, look_up
from benchmarks.masked_forward import run as masked_forward
from benchmarks.moves import run as moves
from benchmarks.moves import task
from optprune_fast.bench import TORCH
from optprune_fast.bench.machine import on_threads
from optprune_fast.bench.memory import STATUS, peak_beyond_inputs
from optprune_fast.bench.oracle import RivalError
from optprune_fast.engine.look_up import COEFFICIENTS
from optprune_fast.engine.shipped import SHIPPED
from optprune_fast.runtime import native

pytestmark = pytest.mark.usefixtures("one_thread")

ROW = {"network", "P", "B", "density", "threads", "rival", "ours", "declined", "detail", "error", "calls", "median_s",
       "lowest_s", "highest_s", "useful_gflops", "best_torch", "ratio", "peak_gflops", "share_of_peak",
       "bandwidth_gb", "share_of_bandwidth", "memory_bytes"}
DISK = ["disk"] if importlib.util.find_spec("zstandard") else []
RESIDENT = ["deploy_memory"] if STATUS.exists() else []
MACHINE = {"processor", "cores", "torch", "commit", "date", "load"}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Small runs of all three, as main writes them: aside, below the current folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("aside"))
        small_runs()
        return store.ASIDE.absolute()


def small_runs():
    masked_forward.main(["--small", "--networks", "mlp", "--densities", "1", ".1", "--rounds", "1", "--backends",
                         "torch"])
    fit_cost.main(["--small", "--networks", "mlp", "--P", "2", "4", "6", "--B", "2", "4", "6", "--at", "2", "4",
                   "--rounds", "1", "--backend", "torch"])
    moves.main(["--small", "--networks", "mlp", "--backends", "torch"])
    latency.main(["--quick"])
    networks.main(["--quick"])
    if RESIDENT:
        deploy_memory.main(["--quick"])
    if DISK:
        disk.main(["--small", "--sparsities", ".9", "--networks", "gaussian"])


def test_files_say_what_was_measured_where(measured):
    documents = {path.stem: json.loads(path.read_text()) for path in measured.glob("*.json")}
    assert set(documents) == {"masked_forward", "cost", "moves", "deploy_latency", "deploy_networks", *RESIDENT, *DISK}
    for kind, document in documents.items():
        assert document["kind"] == kind
        assert set(document["machine"]) >= MACHINE
        assert document["peak"] == "best float32 matrix product of torch"
    rows = documents["masked_forward"]["rows"]
    assert all(set(row) == ROW for row in rows)
    assert {row["density"] for row in rows} == {1.0, 0.1}
    assert len({row["best_torch"] for row in rows if row["density"] == 1.0}) == 1
    assert {row["way"] for row in documents["moves"]["rows"]} == {"moves", "population", "torch, cached"}


def test_the_report_fills_its_sections_and_nothing_else(measured, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    page = (report.DOCS / "RESULTS.md").read_text()
    (tmp_path / "RESULTS.md").write_text(page)
    assert report.main(measured, tmp_path) == [
        "masked_forward", "cost", "moves", *DISK, "deploy_latency", "deploy_networks", *RESIDENT]
    once = (tmp_path / "RESULTS.md").read_text()
    assert "× the best torch rival" in once
    assert once.partition("<!-- masked_forward table -->")[0] == page.partition("<!-- masked_forward table -->")[0]
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {"speed_up_by_density.png", "cost_by_size.png", "sparse_layers.png"}
    assert pictures <= set(re.findall(r"!\[.+\]\((.+)\)", once))
    readme = tmp_path / "README.md"
    readme.write_text("before <!-- speed table --><!-- /speed table --> after")
    report.main(measured, tmp_path, readme)
    assert (tmp_path / "RESULTS.md").read_text() == once
    assert re.search(r"before .*\| weights kept \| 100 % \| 10 % \|.*\| mlp, .* after", readme.read_text(), re.S)


def test_the_newest_file_counts(tmp_path):
    for name, date in (("a", "2026-02-01"), ("b", "2026-01-01")):
        store.write(name, "moves", [], {"date": date}, {}, tmp_path)
    assert store.read("moves", tmp_path)[-1]["machine"]["date"] == "2026-02-01"


def test_files_of_one_processor_and_day_belong_together(tmp_path):
    measured = (("one", "2026-01-01T08", "a"), ("one", "2026-02-01T08", "b"), ("one", "2026-02-01T09", "c"))
    for processor, date, commit in measured:
        store.write(commit, "moves", [], {"date": date, "processor": processor, "commit": commit}, {}, tmp_path)
    assert [document["machine"]["commit"] for document in report.newest("moves", tmp_path)] == ["b", "c"]


def test_sections_of_layers_keep_the_newest_file_of_each_processor(tmp_path):
    measured = (("one", "2026-01-01", "a"), ("other", "2026-02-01", "b"), ("one", "2026-03-01", "c"))
    for processor, date, commit in measured:
        machine = {"date": date, "processor": processor, "commit": commit}
        store.write(commit, "deploy_latency", [], machine, {}, tmp_path)
    shown = report.of_each_processor(report.newest("deploy_latency", tmp_path), lambda d: d["machine"]["commit"])
    assert shown == "c\n\nb"


def test_a_page_without_the_section_is_an_error():
    with pytest.raises(ValueError, match="the page needs <!-- moves table -->"):
        report.filled("nothing", "moves", "text")


def test_a_line_is_told_from_a_parabola():
    assert fit_cost.line([1, 2, 3], [3.0, 5.0, 7.0]) == (2.0, 1.0, 1.0)
    assert fit_cost.line([1, 2, 3], [1.0, 4.0, 9.0])[2] < 0.99


def test_moves_that_are_wrong_are_not_timed():
    small = task.problem("mlp", 10, small=True)
    parent = task.parent_of(small)

    from optprune_fast import Evaluator
    honest = Evaluator(small.model, (small.inputs, small.targets), backend="torch")
    swaps = task.fresh_swaps(parent, 6, 0)
    assert task.check(small, honest.moves(parent, swaps), parent, swaps, honest) < 1e-5
    with pytest.raises(RivalError, match="does not give the loss of these masks"):  # each move's second flip forgotten
        task.check(small, honest.moves(parent, swaps[:, :1]), parent, swaps, honest)


def test_swaps_keep_the_budget_and_are_fresh():
    parent = task.parent_of(task.problem("mlp", 1, small=True))
    swaps = task.fresh_swaps(parent, 50, 0)
    kept = parent.flat()[0]
    assert bool(kept[swaps[:, 0]].all())
    assert not bool(kept[swaps[:, 1]].any())
    assert not torch.equal(swaps, task.fresh_swaps(parent, 50, 1))


@pytest.mark.skipif(not STATUS.exists(), reason="this system does not tell a process's peak")
def test_a_population_of_weights_takes_the_memory_of_a_population():
    """vmap materialises P copies of the weights: 64 times 784·300 floats alone are 57 MiB."""
    make = partial(masked_forward.make, "mlp", 8, False, 0.1)
    peak = peak_beyond_inputs(make, TORCH[1], 0.1, 64, 1)
    assert peak is None or 50 << 20 < peak < 400 << 20


def test_threads_of_one_side_only_are_refused(monkeypatch):
    monkeypatch.setenv("OPTPRUNE_THREADS", str((os.cpu_count() or 1) + 1))
    with pytest.raises(ValueError, match="unset OPTPRUNE_THREADS"), on_threads(1):
        pass


@pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")
def test_look_up_prints_its_table_and_the_coefficients_that_are_written_down(capsys, monkeypatch):
    monkeypatch.setattr(look_up, "SHAPES", ((40, 8), (25, 12)))
    look_up.main(["--P", "16", "--B", "20", "--rounds", "1"])
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[0] for row in rows[2:7]] == ["| 1", "| 0.75", "| 0.5", "| 0.35", "| 0.2"]
    look_up.main(["--coefficients", "--rounds", "1"])
    printed = capsys.readouterr().out
    assert all(f"'{name}': " in printed for name in COEFFICIENTS["avx512"].nanoseconds)


@pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")
def test_break_even_prints_the_coefficients_that_are_shipped(capsys):
    break_even.main(["--rounds", "1"])
    lines = dict(re.findall(r'^ +"(.+)": ([0-9.e+-]+),$', capsys.readouterr().out, re.MULTILINE))
    for coefficients in SHIPPED.values():
        assert lines.keys() == coefficients.nanoseconds.keys()
    assert all(float(value) >= 0 for value in lines.values())
