"""`format="auto"`: the smallest of what the target can run."""

from __future__ import annotations

from dataclasses import replace

from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.exponent_code import CODED_DTYPES, ExponentCode
from optprune_fast.formats.registry import FORMATS
from optprune_fast.runtime.errors import message

# What each target runs, or decodes; at equal bytes the first. CSR is for other people's tools, blocks for masks
# that are known to be made of them; neither is chosen.
TARGETS = {
    "cpu": ("dense", "bitmask", "tiled_index"),
    "gpu": ("dense", "two_four", "bitmask", "tiled_index"),
    "disk": ("dense", "entropy"),
}
VALUES = ("raw", "exponent")


def choose(bitmask: Bitmask, target: str = "cpu", values: str = "raw") -> SparseFormat:
    """The smallest form of a weight among those that the target can use.

    target:  "cpu", "gpu" or "disk"
    values:  "raw", or "exponent": 16-bit values are coded where that is smaller, without loss

    >>> import torch
    >>> weight = torch.ones(64, 1024)
    >>> few, many = torch.full((64, 16), 1), torch.full((64, 16), 0xFFFFFFFF)
    >>> choose(Bitmask.of(weight, few)).name, choose(Bitmask.of(weight, many)).name
    ('tiled_index', 'bitmask')
    """
    if target not in TARGETS:
        raise ValueError(message("export", f"target must be one of {', '.join(TARGETS)}", target=target))
    check_values(values)
    found: list[SparseFormat] = []
    for name in TARGETS[target]:
        try:
            found.append(with_values(FORMATS[name].from_bitmask(bitmask), values))
        except ValueError:  # the format cannot hold this mask, and says so
            continue
    return min(found, key=lambda held: held.nbytes)


def with_values(held: SparseFormat, values: str) -> SparseFormat:
    """The same with its values coded, where that can be asked for and is smaller."""
    check_values(values)
    if values == "raw" or held.dtype not in CODED_DTYPES or "exponent" not in held.codes:
        return held
    coded: SparseFormat = replace(held, values=ExponentCode.of(held.values))  # type: ignore
    return min((held, coded), key=lambda form: form.nbytes)


def check_values(values: str) -> None:
    if values not in VALUES:
        raise ValueError(message("export", f"values must be {' or '.join(VALUES)}", values=values))
