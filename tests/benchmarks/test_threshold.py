"""The benchmark of top-k masks: every way gives the mask that it is timed for, and tables say what is lost."""

from __future__ import annotations

import shutil

import pytest
import torch

from benchmarks import report
from benchmarks.threshold import floor, table, threads
from benchmarks.threshold.cases import BY_SIZE, LISTS, cases
from benchmarks.threshold.rivals import WAYS
from benchmarks.threshold.run import measure
from benchmarks.threshold.task import Case, WrongMask, check, make, threshold_of
from optprune_fast.runtime import native

pytestmark = pytest.mark.usefixtures("one_thread")
NEEDS_FLOOR = pytest.mark.skipif(shutil.which("c++") is None, reason="no c++ to compile the read floor with")


@pytest.mark.parametrize("way", list(WAYS))
def test_every_way_keeps_the_largest(way):
    for case in (Case(5000), Case(5000, columns=27, values="half pruned"), Case(5000, tensors=3, dtype="bfloat16")):
        if WAYS[way].declines(case) is None:
            tensors = make(case)
            run, masks = WAYS[way].prepare(tensors, case.k, 0)
            run()
            check(tensors, masks(), case.k, threshold_of(tensors, case.k), WAYS[way].EXACT)


def test_a_wrong_mask_is_not_timed():
    tensors = make(Case(2048))
    threshold = threshold_of(tensors, 200)
    right = [tensors[0].abs() >= threshold]
    check(tensors, right, 200, threshold, exact=True)
    for wrong in (~right[0], right[0] & False, right[0] | True):
        with pytest.raises(WrongMask):
            check(tensors, [wrong], 200, threshold, exact=True)


def test_sizes_are_those_asked_for():
    for _, case, _ in cases([10_000], [100_000]):
        assert case.size == sum(t.numel() for t in make(case))
        assert abs(case.size - case.n) <= case.tensors * case.columns * 2


@NEEDS_FLOOR
def test_the_floor_reads_and_says_with_what():
    floor.read([torch.ones(1001), torch.ones(0)])
    assert floor.instructions() in ("AVX2", "AVX-512")


@NEEDS_FLOOR
def test_the_section_shows_times_bars_and_memory():
    rows = measure(BY_SIZE, Case(1_000_000), ["native", "np.partition", "torch.kthvalue"], rounds=1)
    rows += measure("one tensor", Case(100_000), ["native"], rounds=1)
    rows += measure("a pool of 10 %", Case(100_000, pool=0.1), ["native"], rounds=1)
    rows += measure("200 small tensors", LISTS["200 small tensors"], ["native"], rounds=1)
    machine = {"processor": "p", "cores": 1, "torch": "t", "torch_uses": "u", "load": [0.1], "load_after": [0.2],
               "date": "2026-01-01T00", "commit": "c"}
    share = {"n": 100_000, "dtype": "float32", "way": "native", "extra_bytes": 10_000, "share": 0.5}
    text = report.top_k([{"rows": rows, "memory": [share], "machine": machine, "options": {"rounds": 1},
                          "floor": "a loop", "numpy": "default"}])
    assert "| **native** |" in text
    assert "| np.partition |" in text
    assert "| 200 small tensors | 20,210 | native |" in text
    assert "| extra memory of the weights', float32 | 100,000 | at most 3.5% | 50.00% | **no** |" in text
    assert "| times faster than the best of torch | 1,000,448 | at least 50 |" in text
    assert all(len(table.cells(row)) == len(table.HEADER) for row in rows)


@pytest.mark.skipif(native.missing("topk_threshold") is not None, reason="no compiled module")
def test_the_threads_are_timed_and_shown(monkeypatch, capsys):
    monkeypatch.setattr(threads, "SIZES", (1280,))
    monkeypatch.setattr(threads, "CALLS", 1)
    before = torch.get_num_threads()
    threads.main()
    shown = capsys.readouterr().out
    assert "| 1,280 |" in shown
    assert "commit " in shown
    assert torch.get_num_threads() == before
