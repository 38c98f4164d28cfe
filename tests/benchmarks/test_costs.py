"""Latencies made of known figures give these figures back."""

from __future__ import annotations

import json

import pytest

from benchmarks.deploy import costs
from benchmarks.deploy.task import LAYERS
from optprune_fast.deploy.shipped import LINEAR

COST = LINEAR["avx512"]


@pytest.fixture
def rows():
    """What a machine would measure that costs exactly what is shipped, but reads twice as fast from afar."""
    out = []
    for layer in ("784x300", "4096x4096"):
        (outputs, inputs), size = LAYERS[layer], LAYERS[layer][0] * LAYERS[layer][1]
        for batch in (1, 16):
            dense = COST.dense(size, batch) / (2 if size > COST.near_weights else 1)
            for sparsity in (0.5, 0.9):
                sparse = COST.sparse(outputs, inputs, round(size * (1 - sparsity)), batch)
                where = {"layer": layer, "batch": batch, "sparsity": sparsity, "cache": "warm", "dtype": "float32"}
                out += [{**where, "rival": "dense", "seconds": 1e-9 * dense, "ratio": 1.0},
                        {**where, "rival": "index", "seconds": 1e-9 * sparse, "ratio": dense / sparse}]
    return out


def test_figures_come_back(rows):
    one, sixteen = costs.lines(rows, COST)
    assert one == ["1", "0.056", "0.056", "0.0675", "0.135", "0.3", "0.3", "4 of 4"]
    assert sixteen == ["16", "0.29", "0.29", "0.193", "0.385", "0.6", "0.6", "3 of 4"]  # 4096x4096 at 50 %


def test_a_cell_where_the_other_one_was_faster_counts(rows):
    large = [row for row in rows if row["rival"] == "index" and row["layer"] == "4096x4096" and row["batch"] == 1]
    assert [row["ratio"] > 1 for row in large] == [False, True]
    large[1]["ratio"] = 0.9
    assert costs.chosen_rightly(COST, large) == (1, 2)


def test_a_file_is_read_and_other_instruction_sets_are_refused(rows, tmp_path, capsys):
    document = {"machine": {"processor": "some", "torch_uses": "AVX512"}, "rows": rows}
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(document))
    costs.main([str(file)])
    assert "| 16 | 0.29 | 0.29 |" in capsys.readouterr().out
    document["machine"]["torch_uses"] = "NEON"
    file.write_text(json.dumps(document))
    with pytest.raises(SystemExit):
        costs.main([str(file)])
    assert "no figures are shipped for neon, only for avx2, avx512" in capsys.readouterr().err
