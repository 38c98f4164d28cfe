"""The demo's picture: accuracy against sparsity, and which weights were kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from optprune_fast.report import layers
from optprune_fast.report.curves import against_sparsity, by_size, over_seeds
from optprune_fast.report.style import look
from optprune_fast.report.tables import Cell
from optprune_fast.runtime.files import write_aside


@dataclass(frozen=True)
class Weights:
    """The weights of one pruned network.

    values:     float [n], all prunable weights
    kept:       bool [n]
    small:      bool [n], kept although magnitude pruning would drop them
    threshold:  the smallest magnitude that magnitude pruning keeps
    title:      which network it is
    """

    values: Tensor
    kept: Tensor
    small: Tensor
    threshold: float
    title: str


def draw(cells: Mapping[tuple[float, str], Cell], weights: Weights, path: Path) -> None:
    """Write the picture to `path`. Raises `ValueError` if matplotlib is not installed."""
    with look() as figures:
        figure = figures.Figure(figsize=(12, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        against_sparsity(left, cells, 100)
        left.set(ylabel="test accuracy (%)", ylim=(0, 104), title=over_seeds(max(c.runs for c in cells.values())))
        # Below: inside it would hide curves, wherever they fall.
        left.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.13))
        by_size(right, layers.by_size(weights.values, weights.kept, weights.small), weights.threshold)
        right.set_title(weights.title)
        right.legend()
        with write_aside(path) as aside:
            figure.savefig(aside, dpi=130)
