"""What sparse and dense layers cost, fitted to measured latencies, beside the figures that `prefer="speed"` decides by.

    python -m benchmarks.deploy.latency --batches 1 2 4 16 64 256 1024 --out mine
    python -m benchmarks.deploy.costs benchmarks/results/mine.json

A figure of `optprune_fast/deploy/shipped.py` is nanoseconds a weight, at each batch size: dense ones of small layers
(near) and of large ones (far), and kept ones, which are the slope over the sparsities of the largest layer. The last
column says in how many cells of the table the shipped figures choose the faster of the two.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.deploy.task import LAYERS
from optprune_fast.bench.table import markdown
from optprune_fast.deploy.chooser import MARGIN
from optprune_fast.deploy.shipped import BATCHES, LINEAR, LinearCost

Row = Mapping[str, Any]
HEADER = ("batch", "near", "shipped", "far", "shipped", "kept", "shipped", "chosen rightly")


def weights(row: Row) -> int:
    rows, columns = LAYERS[row["layer"]]
    return rows * columns


def dense_cost(rows: Sequence[Row]) -> float | None:
    """Nanoseconds a weight; the middle one of what was measured."""
    return statistics.median(1e9 * row["seconds"] / weights(row) for row in rows) if rows else None


def kept_cost(rows: Sequence[Row]) -> float | None:
    """Nanoseconds a kept weight, by least squares over the sparsities."""
    if len({row["sparsity"] for row in rows}) < 2:
        return None
    kept = [weights(row) * (1 - row["sparsity"]) for row in rows]
    return statistics.linear_regression(kept, [1e9 * row["seconds"] for row in rows]).slope


def chosen_rightly(cost: LinearCost, sparse: Sequence[Row]) -> tuple[int, int]:
    """(cells in which the prediction says of a sparse layer what was measured, cells)."""
    right = 0
    for row in sparse:
        size, (outputs, inputs) = weights(row), LAYERS[row["layer"]]
        kept = round(size * (1 - row["sparsity"]))
        predicted = cost.dense(size, row["batch"]) / cost.sparse(outputs, inputs, kept, row["batch"])
        right += (predicted >= MARGIN) == (row["ratio"] >= 1)
    return right, len(sparse)


def lines(rows: Sequence[Row], cost: LinearCost) -> list[list[str]]:
    """The texts under `HEADER`, a line a batch size that has a shipped figure."""
    out = []
    for number, batch in enumerate(BATCHES):
        own = [row for row in rows if row["batch"] == batch]
        dense, sparse = ([row for row in own if row["rival"] == name] for name in ("dense", "index"))
        if not own:
            continue
        near = dense_cost([row for row in dense if weights(row) < cost.near_weights])
        far = dense_cost([row for row in dense if weights(row) >= cost.near_weights])
        largest = max(map(weights, sparse))
        kept = kept_cost([row for row in sparse if weights(row) == largest])
        right, cells = chosen_rightly(cost, sparse)
        pairs = ((near, cost.near[number]), (far, cost.far[number]), (kept, cost.kept[number]))
        out.append([str(batch), *(text for pair in pairs for text in map(_text, pair)), f"{right} of {cells}"])
    return out


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="what benchmarks.deploy.latency wrote")
    document = json.loads(parser.parse_args(arguments).file.read_text())
    isa = document["machine"]["torch_uses"].lower()  # the kernels take the widest that torch takes, too
    if isa not in LINEAR:
        parser.error(f"no figures are shipped for {isa}, only for {', '.join(LINEAR)}")
    rows = [row for row in document["rows"] if row["cache"] == "warm" and row["dtype"] == "float32"]
    print(markdown(HEADER, lines(rows, LINEAR[isa])))
    print(f"\nnanoseconds a weight; {document['machine']['processor']}, figures shipped for {isa}")


if __name__ == "__main__":
    main()
