"""Means and spreads over seeds, and the table of them."""

from __future__ import annotations

import pytest

from optprune_fast.report.tables import Cell, grid, label, summarize


def row(sparsity, method, small, accuracy):
    return {"sparsity": sparsity, "method": method, "small": small, "test_accuracy": accuracy}


def test_seeds_are_summed_up_by_sparsity_method_and_share():
    rows = [row(0.9, "optimized", 1.0, a) for a in (0.5, 0.7, 0.9)]
    rows += [row(0.9, "optimized", 0.3, 0.25), row(0.95, "optimized", 1.0, 0.125)]
    cells = summarize(rows)
    assert list(cells) == [(0.9, "optimized"), (0.9, "optimized, small 0.3"), (0.95, "optimized")]
    assert cells[0.9, "optimized"].mean == pytest.approx(0.7)
    assert cells[0.9, "optimized"].spread == pytest.approx(0.2)  # sample standard deviation: over n - 1
    assert cells[0.9, "optimized, small 0.3"] == Cell(0.25, 0.0, 1)


def test_a_single_run_shows_no_spread():
    assert str(Cell(0.5, 0.0, 1)) == "50.00%"
    assert str(Cell(0.5, 0.01, 5)) == "50.00 ± 1.00 %"


def test_a_method_without_a_run_at_a_rate_leaves_a_gap():
    header, rows = grid({(0.9, "dense"): Cell(1.0, 0.0, 1), (0.95, "magnitude"): Cell(0.5, 0.0, 1)})
    assert header == ["method", "90 %", "95 %"]
    assert rows == [["dense", "100.00%", ""], ["magnitude", "", "50.00%"]]


def test_labels_name_the_core_alone():
    assert label("dense", None) == "dense"
    assert label("random_small", 0.3) == "random_small, small 0.3"
