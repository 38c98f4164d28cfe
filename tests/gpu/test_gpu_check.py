"""`make gpu-check` finds a wrong result, writes down a right one, and says what it had no time for; here on the CPU."""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gpu_check import benchmarks, build, command, correctness, races, report
from gpu_check.stage import Device, Fault, Late, Skipped, Stage, nothing, told

from benchmarks.deploy import gpu as layers
from benchmarks.masked_forward import gpu as nets
from benchmarks.masked_forward import gpu_linear as linear
from benchmarks.moves import gpu as neighbours
from benchmarks.threshold import gpu as threshold
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.models import MLP
from optprune_fast.ops.choose_bits import numba_impl as bits_numba
from optprune_fast.ops.masked_linear import numba_impl
from optprune_fast.ops.rows_linear import torch_impl as rows_torch
from optprune_fast.ops.triton_support import LAUNCHES, Launch
from optprune_fast.runtime.errors import FallbackWarning
from optprune_fast.testing import generation, masked_code
from tests.gpu import fake_stages as fake

SCRIPT = Path(__file__).parents[2] / "scripts/gpu_check"
CPU = Device("cpu", ("numba", "torch"), "native")
TINY = nets.Case("tiny", partial(MLP, [20, 9, 4]), (20,), 5, 8)
SMALL = {  # of the stages that a CPU can do, in their order
    "machine": build.machine,
    "operations": correctness.operations,
    "networks": partial(correctness.networks, names=("MLP",), precisions=("fp32",)),
    "times: masked_linear": partial(benchmarks.masked_linear, cases=(linear.Case(5, 3, 7, 70),)),
    "times: topk_threshold": partial(benchmarks.topk_threshold, cases=(threshold.Case(5000),)),
    "times: rows_linear": partial(benchmarks.rows_linear, cases=(layers.Case(0.8, (3,), rows=70, columns=300),)),
    "times: networks": partial(benchmarks.networks, cases=(TINY,), precisions=("fp32",)),
    "times: moves": partial(benchmarks.moves, cases=(neighbours.Case("few", partial(MLP, [40, 9, 4]), (40,), 6, 8),)),
}


class Here:
    """Runs stages in this process, where tests have put what is wrong; cuts off those of `late` after a row."""

    def __init__(self, late=()):
        self.late, self.given = late, {}

    def found(self, stage, device, seconds):
        self.given[stage.name] = seconds
        for number, one in enumerate(told(stage, device)):
            if number and stage.name in self.late:
                yield Late()
                return
            yield one

    def stop(self):
        pass


def small(*names):
    """Stages as they are, but for their sizes."""
    return [replace(s, run=SMALL[s.name], needs=nothing) for s in command.all_stages() if s.name in (names or SMALL)]


def check_in(folder, stages=None, worker=None, seconds=1000.0, arguments=("--installed",), **more):
    """Exit code, and the stages of the JSON by name."""
    code = command.main(["--results", str(folder), *arguments], device=CPU, worker=worker or Here(),
                        stages=stages or small(), seconds=seconds, **more)
    [path] = folder.glob("gpu-*.json")
    return code, {stage["name"]: stage for stage in json.loads(path.read_text())["stages"]}


@pytest.fixture
def run(tmp_path):
    """run(stages=, worker=, seconds=): the check on the CPU."""
    return partial(check_in, tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(exit code, stages, the JSON, the text, what was printed) of a check that finds nothing wrong."""
    folder, printed = tmp_path_factory.mktemp("results"), io.StringIO()
    with contextlib.redirect_stdout(printed):
        code, stages = check_in(folder)
    [path], [text] = folder.glob("gpu-*.json"), folder.glob("gpu-*.txt")
    return SimpleNamespace(code=code, stages=stages, path=path, document=json.loads(path.read_text()),
                           text=text.read_text(), printed=printed.getvalue())


def texts(found, kind):
    return [one.text for one in found if isinstance(one, kind)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_and_exits_with_2():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "gpu-check: there is no GPU here that torch can use" in done.stderr


def test_a_machine_where_all_is_right_gets_rows(whole):
    code, stages = whole.code, whole.stages
    assert code == 0
    assert [(name, s["end"], s["faults"], s["skipped"]) for name, s in stages.items()] == [
        (name, "whole", [], []) for name in SMALL]
    found = {(c["operation"], c["backend"], c["dtype"]): c for c in stages["operations"]["rows"]}
    assert found["masked_linear", "numba", "float32"]["agreed"] > 40
    assert found["masked_linear", "numba", "float16"]["declined"] > 40
    rows = stages["times: masked_linear"]["rows"]
    assert [(r["dtype"], r["implementation"]) for r in rows] == [
        ("float32", "torch vmap"), ("float32", "numba"), ("float32", "torch loop"),
        ("bfloat16", "torch vmap"), ("bfloat16", "torch loop")]
    assert all(r["median_us"] > 0 and r["mad_us"] >= 0 and r["error"] < 0.2 for r in rows)
    rows = stages["times: topk_threshold"]["rows"]
    assert [r["way"] for r in rows] == ["numba", "torch.topk", "torch.sort", "torch.kthvalue"]
    assert all(r["times_floor"] > 0 and r["case"]["n"] == 5000 for r in rows)
    rows = stages["times: rows_linear"]["rows"]
    assert [(r["batch"], r["way"]) for r in rows] == [(3, "dense"), (3, "bitmask torch"), (3, "index torch")]
    assert [r["share"] < 0.5 and r["times"] > 0 for r in rows] == [False, True, True]
    rows = stages["times: networks"]["rows"]
    assert [r["way"] for r in rows] == ["ours", "loop", "vmap", "vmap, chunks", "dense product"]
    assert {r["case"] for r in rows} == {"tiny P5 B8"}
    assert rows[0]["times_torch"] > 0 < rows[0]["of_dense"]
    rows = stages["times: moves"]["rows"]
    assert [r["way"] for r in rows] == ["moves", "population", "vmap, chunks"]
    assert rows[1]["times"] == 1
    assert all(r["swaps_per_s"] > 0 and r["error"] < 1e-5 for r in rows)


def test_what_is_printed_last_is_written_too(whole):
    assert {"card", "driver", "date", "commit", "command", "doctor"} <= whole.document["machine"].keys()
    assert whole.document["kind"] == "gpu_check"
    assert whole.printed.endswith(f"{whole.text}\nwritten: {whole.path} and .txt\n")


def test_the_table_of_stages_comes_last(whole):
    lines = [line.split() for line in whole.text.splitlines()]

    def after(*head):
        return lines[next(i for i, words in enumerate(lines) if words[:len(head)] == list(head)) + 1:]

    assert after("operation", "backend")[0][:3] == ["choose_bits", "numba", "float32"]
    assert after("case", "dtype")[0][:3] == ["P5-B3-O7-I70", "float32", "torch"]
    assert [words[:3] for words in after("weights", "dtype", "case")[:2]] == [
        ["5,000", "float32", "numba"], ["5,000", "float32", "torch.topk"]]
    assert [words[:-4] for words in after("sparsity", "batch", "way")[:3]] == [
        ["80%", "3", *way.split()] for way in ("dense", "bitmask torch", "index torch")]
    assert [words[:5] for words in after("case", "precision")[:2]] == [
        ["tiny", "P5", "B8", "fp32", way] for way in ("ours", "loop")]
    assert [(words[0], words[-1]) for words in after("stage", "s")] == [
        ("machine", "right"), ("operations", "right"), ("networks", "right"), *5 * [("times:", "rows")]]


@pytest.mark.parametrize("module", [report, threshold])
def test_the_examples_in_what_prints_it_are_right(module):
    done = doctest.testmod(module)
    assert done.failed == 0 < done.attempted


# ---- time


def test_a_check_that_is_cut_off_is_said_and_is_not_right_and_the_rest_goes_on(run, capsys):
    code, stages = run(worker=Here(late={"operations"}))
    assert code == 1
    assert (stages["operations"]["end"], stages["operations"]["faults"]) == ("cut off", [])
    assert stages["operations"]["at"].startswith("after ")
    assert "CUT OFF (after " in capsys.readouterr().out
    assert all(stage["end"] == "whole" for name, stage in stages.items() if name != "operations")


def test_a_benchmark_that_is_cut_off_is_said_and_keeps_its_rows(run, capsys):
    fakes = [Stage("times", fake.hangs, 1, judges=False)]
    code, stages = run(stages=fakes, worker=Here(late={"times"}))
    assert code == 0
    assert (stages["times"]["end"], len(stages["times"]["rows"])) == ("cut off", 1)
    assert "CUT OFF; the rest of it was not looked at" in capsys.readouterr().out


def test_a_stage_gets_what_is_left_and_one_that_gets_nothing_is_said(run, capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(command.time, "monotonic", lambda: now[0])

    def takes_70(device):
        now[0] += 70
        yield fake.Row(0)

    worker = Here()
    code, stages = run(stages=[Stage(name, takes_70, 100) for name in "abc"], worker=worker, seconds=142)
    assert code == 1
    assert worker.given == {"a": 100, "b": 72}
    assert [stages[name]["end"] for name in "abc"] == ["whole", "whole", "not begun"]
    assert "NOT BEGUN: no time was left" in capsys.readouterr().out


def test_all_of_it_ends_within_eight_minutes():
    assert command.SECONDS < 8 * 60 - 10  # which ending a process may take


# ---- the build


def test_a_build_that_fails_ends_it_and_is_said(run, capsys):
    failing = partial(build.install, command=(sys.executable, "-c", "raise SystemExit(3)"))
    code, stages = run(arguments=(), build=replace(build.BUILD, run=failing))
    assert code == 1
    assert list(stages) == ["build"]
    assert stages["build"]["faults"] == ["-c raise SystemExit(3): exit code 3"]
    assert "1 wrong" in capsys.readouterr().out


def test_what_was_built_is_checked_next(run):
    code, stages = run(arguments=(), stages=[Stage("next", fake.hangs, 1, needs=fake.no_room)],
                       build=replace(build.BUILD, run=partial(build.install, command=(sys.executable, "-c", ""))))
    assert code == 0
    assert list(stages) == ["build", "next"]


# ---- what is wrong, and what is skipped


def test_a_wrong_network_is_a_fault(run, monkeypatch):
    right = Evaluator.__call__
    monkeypatch.setattr(Evaluator, "__call__", lambda self, masks: right(self, masks) + 1e-3)
    code, stages = run(small("networks", "times: rows_linear", "times: networks"))
    assert code == 1
    assert len(stages["networks"]["faults"]) == 2  # in one chunk, and in many
    assert all(fault.startswith("MLP fp32: errors [0.00") for fault in stages["networks"]["faults"])
    [fault] = stages["times: networks"]["faults"]
    assert fault.startswith("tiny P5 B8: fp32 ours: error 0.001")
    assert stages["times: networks"]["rows"] == []
    assert stages["times: rows_linear"]["rows"]  # the others go on


def test_torch_is_set_back_after_a_precision():
    before = torch.backends.cuda.matmul.allow_tf32
    with nets.torch_precision("tf32"):
        assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 is before


def test_one_wrong_weight_is_a_fault(run, monkeypatch, capsys):
    right = numba_impl.run

    def wrong(x, weight, words):
        out = right(x, weight, words)
        if x.shape[-1] == 513:
            out[..., -1] -= x[..., -1] * weight[-1, -1]  # as if the last column's bit were not looked at
        return out

    monkeypatch.setattr(numba_impl, "run", wrong)
    code, stages = run(small("operations"))
    assert code == 1
    [fault] = stages["operations"]["faults"]
    assert fault.startswith("masked_linear numba float32 P3-B5-O7-I513-shared: largest error")
    assert f"WRONG: {fault.splitlines()[0]}" in capsys.readouterr().out


def test_a_wrong_result_gets_no_time_and_the_next_case_goes_on(monkeypatch):
    right = numba_impl.run
    monkeypatch.setattr(numba_impl, "run", lambda x, weight, words: right(x, weight, words) + (x.shape[-1] == 70))
    cases = [linear.Case(5, 3, 7, 70), linear.Case(5, 3, 7, 71)]
    found = list(benchmarks.masked_linear(CPU, cases))
    [fault] = texts(found, Fault)
    assert fault.startswith("P5-B3-O7-I70: largest error")
    assert [row.case for row in found if isinstance(row, linear.Row) and row.implementation == "numba"] == [
        "P5-B3-O7-I71"]


@pytest.mark.parametrize(("stage", "case"), [
    (benchmarks.topk_threshold, threshold.Case(10**9)), (benchmarks.rows_linear, layers.Case(0.5))])
def test_a_case_that_the_device_has_no_room_for_is_said(monkeypatch, stage, case):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, 2**30))
    [skipped] = texts(stage(Device(), (case,)), Skipped)
    assert skipped.endswith("GiB, 1 GiB are free")


def test_rows_far_apart_that_the_device_has_no_room_for_are_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, 2**30))
    assert texts(correctness.far_rows(CPU), Skipped) == [
        f"torch.{dtype}: needs {gib} GiB and some, 1 GiB are free"
        for dtype, gib in (("float32", 8), ("float16", 4), ("bfloat16", 4))]


def test_a_sanitizer_that_is_absent_or_refuses_the_device_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(races.sanitizer_missing.__globals__["cuda"], "missing", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [texts(told(stage, CPU), Skipped)[0].partition(",")[0] for stage in races.STAGES] == [
        "no compute-sanitizer on PATH"] * 3
    refuses = tmp_path / "compute-sanitizer"
    refuses.write_text("#!/bin/sh\necho '========= Device not supported. Please refer to the documentation'\nexit 1\n")
    refuses.chmod(0o755)
    found = list(told(races.STAGES[0], CPU))
    assert texts(found, Skipped) == ["compute-sanitizer memcheck: Device not supported"]
    assert texts(found, Fault) == []


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_machine_code_is_compiled_for_the_card_by_other_processes(monkeypatch):
    code = masked_code
    good = code.Configuration("masked_linear", "fp32", "fp32", LAUNCHES["hopper"]["fp32", "wide"])
    spilling = code.Configuration("masked_conv2d", "bf16", "fp32", Launch(128, 128, warps=8, stages=3), aligned=False,
                                  wide=True, stacked=True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: (9, 0))
    monkeypatch.setattr(code, "configurations", lambda: [(80, good), (90, good), (90, spilling)])
    monkeypatch.setattr(code, "cast_on_load", list)
    monkeypatch.setattr(correctness.os, "cpu_count", lambda: 1)
    assert texts(correctness.masked_machine_code(CPU), Fault) == [f"machine code of {spilling}: registers spill"]


@pytest.mark.filterwarnings("ignore:(rows|moved)_linear runs in plain torch")
def test_the_checks_of_sparse_layers_pass_where_they_should_and_see_a_layout_that_is_wrong(monkeypatch):
    monkeypatch.setattr(torch.sparse, "to_sparse_semi_structured", lambda weight: weight)
    monkeypatch.setattr(layers.gpu, "serves", lambda device: True)  # the CPU is taken for a GPU
    checks = {name: check for name, check in layers.CHECKS.items() if name != "offsets"}  # which is of Triton's kernels
    assert [fault for check in checks.values() for fault in check("cpu")] == []
    monkeypatch.setattr(layers.gpu, "serves", lambda device: False)
    assert list(checks["round trip"]("cpu")) == 2 * ["the weight does not lie in rows"]
    assert list(checks["2:4"]("cpu")) == ["2:4 is held as bitmask"]


def test_sparse_layers_are_checked_for_any_number_of_samples(monkeypatch):
    check = layers.CHECKS["every kernel"]
    assert list(check("cpu", ("torch",))) == []
    right = rows_torch.run
    monkeypatch.setattr(rows_torch, "run", lambda x, *rest: right(x, *rest) + (len(x) == 17))
    assert list(check("cpu", ("torch",)))[:2] == 2 * ["torch torch.float32 words: 17 samples come out wrong"]


def test_falling_back_to_plain_torch_is_a_fault(monkeypatch):
    monkeypatch.setattr(correctness.operation, "_warned", set())
    with pytest.warns(FallbackWarning):
        faults = texts(correctness.choice(CPU), Fault)
    assert [fault.split(" runs as torch")[0] for fault in faults] == [
        "masked_linear torch.float16", "masked_linear torch.bfloat16"]


def test_rows_are_checked_however_they_are_aligned(monkeypatch):
    assert texts(correctness.copies(CPU, "numba"), Fault) == []
    right = numba_impl.run
    monkeypatch.setattr(numba_impl, "run", lambda x, weight, words: right(x, weight, words) + (x.shape[-1] == 74))
    assert texts(correctness.copies(CPU, "numba"), Fault) == [
        "masked_linear numba torch.float32: rows of 74 numbers come out wrong"]


def test_a_generation_has_the_bits_of_the_cpu_on_every_backend():
    assert generation.generation_faults("cpu", ("cuda", "native", "numba")) == []


@pytest.mark.parametrize(("wrong", "fault"), [
    (lambda words, counts, seeds: words, "masks numba, 1 weights: some keep "),
    (lambda words, counts, seeds: bits_numba.right(words, counts, seeds ^ 1),
     "masks numba, 1 weights: not those of the CPU"),
])
def test_a_wrong_generation_is_a_fault(monkeypatch, wrong, fault):
    monkeypatch.setattr(bits_numba, "right", bits_numba.run, raising=False)
    monkeypatch.setattr(bits_numba, "run", wrong)
    assert generation.generation_faults("cpu", ("numba",))[0].startswith(fault)


def test_a_generation_that_waits_is_a_fault(monkeypatch):
    right, calls = bits_numba.run, iter(range(1000))

    def waits(words, counts, seeds):
        if next(calls) == 4:  # the first of the second generation; four before it, of which one may wait
            raise RuntimeError("called a synchronizing CUDA operation")
        return right(words, counts, seeds)

    monkeypatch.setattr(bits_numba, "run", waits)
    assert generation.generation_faults("cpu", ("numba",)) == [
        "masks numba, 1 weights: called a synchronizing CUDA operation"]
