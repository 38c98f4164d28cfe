"""What masks keep, layer by layer and by the size of the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optprune_fast.masks.packed import PackedMasks
from optprune_fast.recipe.result import Result

Row = dict[str, Any]
BINS = 60


def by_layer(result: Result) -> list[Row]:
    """A row a layer: what the mask and magnitude pruning keep of it, and how many of the kept weights are small."""
    kept, large = _counts(result.mask), _counts(result.magnitude)
    both = _counts(result.mask & result.magnitude)
    rows = []
    for layer in result.layout:
        size, name = max(1, layer.rows * layer.columns), layer.name
        rows.append({"layer": name, "shape": list(layer.shape), "weights": size, "kept": kept[name],
                     "kept_magnitude": large[name], "kept_small": kept[name] - both[name],
                     "density": kept[name] / size, "density_magnitude": large[name] / size})
    return rows


def by_size(values: Tensor, kept: Tensor, small: Tensor) -> list[Row]:
    """`BINS` rows over |w|: edges `low` and `high`, and how many weights lie there: all, kept large, kept small.

    values:       float [n]
    kept, small:  bool [n]; small ones are kept too

    >>> rows = by_size(torch.tensor([0.1, -2.0, 0.5]), torch.tensor([True, True, False]),
    ...                torch.tensor([True, False, False]))
    >>> len(rows), rows[0]["low"], rows[-1]["high"], sum(row["weights"] for row in rows), rows[-1]["kept_large"]
    (60, 0.0, 2.0, 3, 1)
    """
    sizes = values.abs().double()
    largest = float(sizes.max()) or 1.0
    bins = (sizes / largest * BINS).long().clamp(max=BINS - 1)
    columns = {"weights": torch.ones_like(kept), "kept_large": kept & ~small, "kept_small": small}
    counts = {name: torch.bincount(bins[chosen], minlength=BINS).tolist() for name, chosen in columns.items()}
    return [{"low": largest * i / BINS, "high": largest * (i + 1) / BINS, **{name: counts[name][i] for name in counts}}
            for i in range(BINS)]


def threshold(values: Tensor, magnitude: PackedMasks) -> float:
    """The smallest magnitude that magnitude pruning keeps."""
    return float(values.abs()[magnitude.flat()[0]].min())


def _counts(mask: PackedMasks) -> dict[str, int]:
    return {name: int(bits.sum()) for name, bits in mask.to_dense().items()}
