"""The picture is drawn without a display, and says what it needs."""

from __future__ import annotations

import sys

import pytest
import torch

from optprune_fast.report.plots import Weights, draw
from optprune_fast.report.tables import Cell

CELLS = {(rate, name): Cell(0.5, 0.1, 3) for rate in (0.9, 0.95)
         for name in ("dense", "magnitude", "optimized", "optimized, small 0.3", "random_small")}


def weights(values):
    kept = values.abs() > 1
    return Weights(values, kept, torch.zeros_like(kept), 1.0, "title")


@pytest.mark.parametrize("values", [torch.linspace(-2, 2, 101), torch.zeros(3)], ids=["spread", "all zero"])
def test_a_png_is_written(tmp_path, values):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    draw(CELLS, weights(values), tmp_path / "a.png")
    raw = (tmp_path / "a.png").read_bytes()
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(raw) > 10_000


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"needs matplotlib.*\n.*optprune-fast\[plot\]"):
        draw(CELLS, weights(torch.ones(3)), tmp_path / "a.png")
