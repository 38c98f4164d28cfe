"""The study's tables, from cells made by hand."""

from __future__ import annotations

import math

import pytest

from benchmarks.study import table
from benchmarks.study.paired import paired_t, t_tails
from benchmarks.study.plan import AUTO, DENSE, MAGNITUDE
from benchmarks.study.summary import summaries

MACHINE = {"processor": "P", "cores": 2, "torch": "2", "torch_uses": "X", "threads": 1, "date": "2026-01-02T03"}


def cell(method, seed, accuracy, sparsity=0.9, tuned=0, **other):
    return {"network": "toy", "seed": seed, "sparsity": sparsity, "method": method, "small": None, "seconds": None,
            "evaluations": None, "of": None, "tuned": tuned, "kept": 10, "kept_small": 0, "test_accuracy": accuracy,
            "calibration_loss": 0.5, "validation_loss": 0.75, "load": 1.0, "commit": "abc", **other}


def searched(seed, accuracy, small=1.0, **other):
    return cell(AUTO, seed, accuracy, small=small, seconds=10.0, kept_small=4, found_seconds=10.5 + seed,
                found_evaluations=100 * (seed + 1), screened=3.0, gradient_passes=1.0, **other)


ROWS = [cell(DENSE, 0, 0.95, 0.0), cell(DENSE, 1, 0.97, 0.0), cell(DENSE, 2, 0.96, 0.0),
        cell(MAGNITUDE, 0, 0.50), cell(MAGNITUDE, 1, 0.40), cell(MAGNITUDE, 2, 0.60),
        searched(0, 0.90), searched(1, 0.85), searched(2, 0.92)]


def test_a_summary_compares_the_same_networks():
    found = {s.method: s for s in summaries(ROWS)}
    auto = found[AUTO]
    assert auto.mean == pytest.approx(0.89)
    assert auto.spread == pytest.approx(math.sqrt((0.01**2 + 0.04**2 + 0.03**2) / 2))
    assert auto.below_dense == pytest.approx(0.07)
    assert auto.gain == pytest.approx(0.39)
    assert auto.won_back == pytest.approx(0.39 / 0.46)
    assert auto.better == 3
    assert auto.p == pytest.approx(paired_t([0.90, 0.85, 0.92], [0.50, 0.40, 0.60]))
    assert (auto.seconds, auto.evaluations, auto.kept_small) == (11.5, 200, 0.4)
    assert found[MAGNITUDE].gain is None
    assert found[DENSE].below_dense == 0


def test_dense_of_other_seeds_is_left_out():
    auto = next(s for s in summaries(ROWS[:7]) if s.method == AUTO)  # one seed
    assert (auto.n, auto.spread, auto.p) == (1, None, None)
    assert auto.below_dense == pytest.approx(0.05)
    assert auto.won_back == pytest.approx(0.40 / 0.45)


def test_tuned_methods_are_compared_with_tuned_magnitude():
    tuned = [cell(MAGNITUDE, 0, 0.90, tuned=5), searched(0, 0.92, tuned=5)]
    last = summaries([*ROWS, *tuned])[-1]
    assert last.gain == pytest.approx(0.02)
    assert last.below_dense == pytest.approx(0.03)  # than the network that was not tuned


def test_nothing_lost_is_nothing_to_win_back():
    rows = [cell(DENSE, 0, 0.9, 0.0), cell(MAGNITUDE, 0, 0.9), searched(0, 0.9)]
    assert summaries(rows)[-1].won_back is None


def test_the_tables_say_what_was_measured_where():
    page = table.section([{"machine": MACHINE, "rows": [*ROWS, searched(0, 0.8, small=0.3)]}])
    assert "**toy**, 3 networks, dense 96.00 ± 1.00 %" in page
    assert "| 10 s each, not tuned | 90 % |" in page
    assert "| magnitude | 50.00 ± 10.00 (-46.0) |" in page
    assert "| **auto** | 89.00 ± 3.61 (-7.0) |" in page
    assert "| **auto**, 70 % fixed as core | 80.00 (-15.0) |" in page
    assert ("| **auto** | 90 % | 10 s each | 0 | 3 | 89.00 ± 3.61 | 7.00 | 0.848 | +39.00 | 0.0093 | 3 of 3 | 40 % | "
            "0.5000 | 0.7500 | 11.5 | 200 | 3 | 1 |") in page
    assert "load 1 to 1 while it ran, 2026-01-02, commit abc; `python -m benchmarks.study.run`" in page


def test_a_table_for_each_limit_and_for_tuning():
    rows = [*ROWS, searched(0, 0.9, tuned=5), *(cell(MAGNITUDE, 0, 0.9, tuned=5),),
            cell(AUTO, 0, 0.7, small=1.0, evaluations=300)]
    page = table.section([{"machine": MACHINE, "rows": rows}]).split("<details>")[0]
    heads = [line[2:].split(" | ")[0] for line in page.splitlines() if " 90 % |" in line]
    assert heads == ["10 s each, not tuned", "300 evaluations each, not tuned", "10 s each, 5 epochs of fine-tuning"]


@pytest.mark.parametrize("freedom", range(1, 12))
def test_student_s_t_agrees_with_its_density_integrated(freedom):
    """The oracle: the density over [0, t] by Simpson's rule."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi * freedom)
    for t in (0.0, 0.3, 2.5, 6.0):
        steps, h = 4000, t / 4000
        density = [scale * (1 + (i * h) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(steps + 1)]
        area = h / 3 * (density[0] + density[-1] + 4 * sum(density[1:-1:2]) + 2 * sum(density[2:-1:2]))
        assert t_tails(t, freedom) == pytest.approx(1 - 2 * area, abs=1e-10)
        assert t_tails(-t, freedom) == t_tails(t, freedom)


def test_pairs_without_spread_have_no_p():
    assert paired_t([1.0], [0.0]) is None
    assert paired_t([1.0, 2.0], [0.0, 1.0]) is None
    assert paired_t([1.0, 3.0], [0.0, 1.0]) == pytest.approx(2 * math.atan(1 / 3) / math.pi)
