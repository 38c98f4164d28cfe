"""Values that are alive together never share memory, and borders of zeros stay what they are."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from optprune_fast.plan.arena import assign
from optprune_fast.plan.placed import Buffer

BORDERS = (None, None, (2, 3, 3, 1, 1), (2, 4, 2, 0, 1))
SIZES = {(2, 3, 3, 1, 1): 50, (2, 4, 2, 0, 1): 32}


def drawn(seed: int) -> list[Buffer]:
    draw = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=draw))

    buffers = []
    for _ in range(14):
        border, first = BORDERS[number(0, 4)], number(0, 12)
        buffers.append(Buffer("narrow", number(1, 60) if border is None else SIZES[border], border, first,
                              first + number(0, 5)))
    return buffers


def overlap(a: Buffer, b: Buffer) -> bool:
    return a.offset < b.offset + b.size and b.offset < a.offset + a.size


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_what_shares_memory_may(seed: int, reuse: bool) -> None:
    buffers = drawn(seed)
    top = assign(buffers, reuse)
    assert top == max(b.offset + b.size for b in buffers)
    for a, b in combinations(buffers, 2):
        if overlap(a, b):
            assert reuse
            assert a.last < b.first or b.last < a.first
            assert a.border == b.border
            assert a.border is None or a.offset == b.offset


def test_memory_is_reused() -> None:
    chain = [Buffer("wide", 8, None, i, i + 1) for i in range(10)]
    assert (assign(chain), assign(chain, reuse=False)) == (16, 80)
    pictures = [Buffer("narrow", 50, BORDERS[2], i, i + 1) for i in range(10)]
    assert assign(pictures) == 100


def test_nothing_needs_nothing() -> None:
    assert assign([]) == 0
