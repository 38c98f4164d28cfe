"""scripts/gpu_check.py finds a wrong result, and writes down a right one; here on the CPU, with the same code."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.models import MLP
from optprune_fast.ops.choose_bits import numba_impl as bits_numba
from optprune_fast.ops.masked_linear import numba_impl
from optprune_fast.ops.triton_support import LAUNCHES, Launch
from optprune_fast.runtime.errors import FallbackWarning
from optprune_fast.testing import generation

SCRIPT = Path(__file__).parents[2] / "scripts/gpu_check.py"


@pytest.fixture(scope="module")
def gpu_check():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module  # where dataclasses look for the types of their fields
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu_check"]


def tiny(gpu_check):
    return gpu_check.networks.Case("tiny", lambda: MLP([20, 9, 4]), (20,), 5, 8)


@pytest.fixture
def run(gpu_check, tmp_path, monkeypatch):
    """run(seconds=): the whole check on the CPU with a small task; exit code and the JSON that was written."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)  # main sets it

    def check(seconds=1000.0):
        code = gpu_check.main(["--results", str(tmp_path)], device="cpu", backends=("numba", "torch"),
                              tasks=(gpu_check.Task(5, 3, 7, 70),), cases=(gpu_check.threshold.Case(5000),),
                              engine="native", nets=(tiny(gpu_check),), precisions=("fp32",), models=("MLP",),
                              sparse=(gpu_check.layers.Case(0.8, 3, rows=70, columns=300),),
                              seconds=seconds)
        [path] = tmp_path.glob("gpu-*.json")
        return code, json.loads(path.read_text())

    return check


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_and_exits_with_2():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "gpu-check: there is no GPU here that torch can use" in done.stderr
    assert "backends, fastest first" in done.stdout


def test_a_machine_where_all_is_right_gets_a_table_last_and_a_file(run, capsys):
    code, written = run()
    assert code == 0
    assert written["faults"] == []
    assert {"card", "driver", "date", "commit", "command", "machine"} <= written.keys()
    assert written["sanitizer"].startswith("none, so races")
    found = {(c["operation"], c["backend"], c["dtype"]): c for c in written["checks"]}
    assert found["masked_linear", "numba", "float32"]["agreed"] > 40
    assert found["masked_linear", "numba", "float16"]["declined"] > 40
    rows = [(r["dtype"], r["implementation"]) for r in written["rows"]]
    assert rows == [("float32", "torch vmap"), ("float32", "numba"), ("float32", "torch loop"),
                    ("bfloat16", "torch vmap"), ("bfloat16", "torch loop")]
    assert all(r["median_us"] > 0 and r["mad_us"] >= 0 and r["error"] < 0.2 for r in written["rows"])
    assert [r["way"] for r in written["topk_threshold"]] == ["numba", "torch.topk", "torch.sort", "torch.kthvalue"]
    assert all(r["times_floor"] > 0 and r["case"]["n"] == 5000 for r in written["topk_threshold"])
    ways = ["ours", "loop", "vmap", "vmap, chunks", "dense product"]
    assert [r["way"] for r in written["networks"]] == ways
    assert [r["case"] for r in written["networks"]] == ["tiny P5 B8"] * len(ways)
    assert written["networks"][0]["times_torch"] > 0 < written["networks"][0]["of_dense"]
    assert written["left_out"] == []
    assert [r["way"] for r in written["rows_linear"]] == ["dense", "bitmask", "index"]
    assert [r["share"] < 0.5 and r["times"] > 0 for r in written["rows_linear"]] == [False, True, True]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:5] for line in printed[-5:-2]] == [
        ["tiny", "P5", "B8", "fp32", way] for way in ("ours", "loop", "vmap")]
    ranks = next(i for i, line in enumerate(printed) if line.split()[:3] == ["weights", "dtype", "case"])
    assert [line.split()[:3] for line in printed[ranks + 1:ranks + 5]] == [
        *(["5,000", "float32", way] for way in ("numba", "torch.topk", "torch.sort",
                                                                            "torch.kthvalue"))]
    layers = next(i for i, line in enumerate(printed) if line.split()[:3] == ["sparsity", "batch", "way"])
    assert [line.split()[:3] for line in printed[layers + 1:layers + 4]] == [
        ["80%", "3", way] for way in ("dense", "bitmask", "index")]
    head, first, _, _, _, last = printed[printed.index(next(p for p in printed if p.startswith("task "))):][:6]
    assert head.split()[:3] == ["task", "dtype", "implementation"]
    assert first.split()[:2] == ["P5-B3-O7-I70", "float32"]
    assert last.split()[:4] == ["P5-B3-O7-I70", "bfloat16", "torch", "loop"]


def test_what_would_begin_too_late_is_left_out_by_name(run, capsys):
    code, written = run(seconds=0.0)
    assert code == 0
    assert written["networks"] == []
    assert written["left_out"][0] == "tiny P5 B8 fp32 ours"
    assert capsys.readouterr().out.splitlines()[-1] == "left out, for want of time: tiny P5 B8 fp32 dense product"


def test_a_wrong_network_is_a_fault(run, monkeypatch):
    right = Evaluator.__call__
    monkeypatch.setattr(Evaluator, "__call__", lambda self, masks: right(self, masks) + 1e-3)
    code, written = run()
    assert code == 1
    assert len(written["faults"]) == 2  # in one chunk, and in many
    assert all(fault.startswith("MLP fp32: errors [0.00") for fault in written["faults"])
    assert written["rows"] == written["networks"] == []


def test_a_wrong_way_gets_no_time(gpu_check, monkeypatch):
    monkeypatch.setattr(Evaluator, "__call__", lambda self, masks: torch.zeros(len(masks)))
    with pytest.raises(AssertionError, match=r"tiny fp32 ours: error \d"):
        list(gpu_check.networks.measure("cpu", [tiny(gpu_check)], "native", ["fp32"], gpu_check.times_us, 1e12, []))


def test_torch_is_set_back_after_a_precision(gpu_check):
    before = torch.backends.cuda.matmul.allow_tf32
    with gpu_check.networks.torch_precision("tf32"):
        assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 is before


def test_one_wrong_weight_is_a_fault_and_nothing_is_timed(run, monkeypatch, capsys):
    right = numba_impl.run

    def wrong(x, weight, words):
        out = right(x, weight, words)
        if x.shape[-1] == 513:
            out[..., -1] -= x[..., -1] * weight[-1, -1]  # as if the last column's bit were not looked at
        return out

    monkeypatch.setattr(numba_impl, "run", wrong)
    code, written = run()
    assert code == 1
    assert [fault.split(": largest error")[0] for fault in written["faults"]] == [
        "masked_linear numba float32 P3-B5-O7-I513-shared"]
    assert written["rows"] == []
    assert "1 faults; nothing is timed" in capsys.readouterr().err


def test_a_wrong_result_gets_no_time(gpu_check, monkeypatch):
    monkeypatch.setattr(numba_impl, "run", lambda x, weight, words: torch.zeros(5, 3, 7))
    with pytest.raises(AssertionError, match="largest error"):
        list(gpu_check.timings("cpu", (gpu_check.Task(5, 3, 7, 70),), ("numba",)))


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_machine_code_is_compiled_for_the_card_by_other_processes(gpu_check, monkeypatch):
    code = gpu_check.masked_code
    good = code.Configuration("masked_linear", "fp32", "fp32", LAUNCHES["hopper"]["fp32", "wide"])
    spilling = code.Configuration("masked_conv2d", "bf16", "fp32", Launch(128, 128, warps=8, stages=3), aligned=False,
                                  wide=True, stacked=True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(code, "configurations", lambda: [(80, good), (90, good), (90, spilling)])
    monkeypatch.setattr(code, "cast_on_load", list)
    monkeypatch.setattr(gpu_check.os, "cpu_count", lambda: 1)
    assert gpu_check.check_machine_code() == [f"machine code of {spilling}: registers spill"]


@pytest.mark.filterwarnings("ignore:rows_linear runs in plain torch")
def test_the_checks_of_sparse_layers_pass_where_they_should_and_see_a_layout_that_is_wrong(gpu_check, monkeypatch):
    layers = gpu_check.layers
    monkeypatch.setattr(torch.sparse, "to_sparse_semi_structured", lambda weight: weight)
    monkeypatch.setattr(layers.gpu, "serves", lambda device: True)  # the CPU is taken for a GPU
    checks = {name: check for name, check in layers.CHECKS.items() if name != "offsets"}  # which is of Triton's kernels
    assert [fault for check in checks.values() for fault in check("cpu")] == []
    monkeypatch.setattr(layers.gpu, "serves", lambda device: False)
    assert list(checks["round trip"]("cpu")) == 2 * ["the weight does not lie in rows"]
    assert list(checks["2:4"]("cpu")) == ["2:4 is held as bitmask"]


def test_falling_back_to_plain_torch_is_a_fault(gpu_check, monkeypatch):
    monkeypatch.setattr(gpu_check.operation, "_warned", set())
    with pytest.warns(FallbackWarning):
        faults = gpu_check.check_choice("cpu")
    assert [fault.split(" runs as torch")[0] for fault in faults] == [
        "masked_linear torch.float16", "masked_linear torch.bfloat16"]


def test_rows_are_checked_however_they_are_aligned(gpu_check, monkeypatch):
    assert gpu_check.check_copies("cpu", "numba") == []
    right = numba_impl.run
    monkeypatch.setattr(numba_impl, "run", lambda x, weight, words: right(x, weight, words) + (x.shape[-1] == 74))
    assert gpu_check.check_copies("cpu", "numba") == [
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
