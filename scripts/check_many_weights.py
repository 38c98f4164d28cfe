"""topk_threshold over more than 2^31 weights: the mask against a count of every key, part by part. Takes 5 GiB.

    python scripts/check_many_weights.py [--weights 2147483711]
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from optprune_fast.ops.topk_threshold import topk_threshold
from optprune_fast.ops.words import popcount, unpack

COLUMNS, PART = 65_537, 128  # no multiple of 64; rows looked at together


def made(rows: int) -> Tensor:
    """Every row is another turn of one row, so that each of its values is there once a row."""
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(COLUMNS, generator=generator).bfloat16()
    weight = torch.empty(rows, COLUMNS, dtype=torch.bfloat16)
    for r in range(rows):
        weight[r] = row.roll(r)
    return weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=int, default=2**31 + 63)
    weight = made(-(-parser.parse_args().weights // COLUMNS))
    n = weight.numel()
    copies = weight[0].abs().float().sort(descending=True).values  # each of them once a row
    for k in (n // 10 + 1, n - 5):
        found = topk_threshold(weight, k, backend="native")
        threshold = float(copies[(k - 1) // len(weight)])
        assert found.threshold == threshold, (found.threshold, threshold)
        left = k - int((copies > threshold).sum()) * len(weight)  # ties that are kept, the first ones
        for first in range(0, len(weight), PART):
            part = weight[first : first + PART].abs().float()
            ties = part == threshold
            taken = ties.flatten().cumsum(0).view_as(ties) <= left
            kept = unpack(found.words[0][first : first + PART], COLUMNS)
            assert torch.equal(kept, (part > threshold) | (ties & taken)), f"rows from {first}"
            left -= min(left, int(ties.sum()))
        assert int(sum(popcount(rows).sum() for rows in found.words[0].split(PART))) == k
        print(f"{n:,} weights, {k:,} kept: every bit is right")


if __name__ == "__main__":
    main()
