"""Exponents through the range coder: which of the commonest it is, one question each; else its bits, highest first.

    context of the question "is it the k-th?"  (the two ranks before, 3 and above alike) · RANKS + k
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optprune_fast.formats.numba_coder import SLOWEST, adapt, finish, get, probability, put, start
from optprune_fast.ops.numba_support import called

RANKS = 8         # the commonest exponents, which are asked for one by one
NEAR = 4


@called
def encode(symbols: Any, rank_of: Any, bits: Any, p: Any, tree: Any, out: Any) -> Any:
    """symbols uint16 [n] below 2^bits -> how many of `out` (uint32) were filled; -1 if they do not suffice.

    rank_of: int64 [2^bits], RANKS for those that are none; p: int64 [NEAR² RANKS], tree: int64 [2^bits], changed
    """
    low, span, at = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF), 0
    seen, tree_seen = np.full(p.size, 0, np.int64), np.full(tree.size, 0, np.int64)
    near = 0
    for i in range(symbols.size):
        if at + RANKS + bits + 4 > out.size:
            return -1
        symbol = np.int64(symbols[i])
        rank = rank_of[symbol]
        for k in range(RANKS):
            c, hit = near * RANKS + k, np.int64(k == rank)
            low, span, at = put(low, span, at, out, hit, probability(p[c]))
            adapt(p, seen, c, hit, SLOWEST)
            if hit:
                break
        if rank == RANKS:
            node = np.int64(1)
            for b in range(bits - 1, -1, -1):
                bit = (symbol >> b) & 1
                low, span, at = put(low, span, at, out, bit, probability(tree[node]))
                adapt(tree, tree_seen, node, bit, SLOWEST)
                node = node * 2 + bit
        near = (near * NEAR + min(rank, NEAR - 1)) % (NEAR * NEAR)
    return finish(low, span, at, out)


@called
def decode(data: Any, symbol_of: Any, bits: Any, p: Any, tree: Any, symbols: Any) -> None:
    """uint32 data -> symbols uint16 [n]. symbol_of: int64 [RANKS]; the rest as for `encode`."""
    code, span, at = start(data), np.uint64(0xFFFFFFFFFFFFFFFF), 2
    seen, tree_seen = np.full(p.size, 0, np.int64), np.full(tree.size, 0, np.int64)
    near = 0
    for i in range(symbols.size):
        rank = RANKS
        for k in range(RANKS):
            c = near * RANKS + k
            hit, code, span, at = get(code, span, at, data, probability(p[c]))
            adapt(p, seen, c, hit, SLOWEST)
            if hit:
                rank = k
                break
        if rank < RANKS:
            symbols[i] = np.uint16(symbol_of[rank])
        else:
            node = np.int64(1)
            for _ in range(bits):
                bit, code, span, at = get(code, span, at, data, probability(tree[node]))
                adapt(tree, tree_seen, node, bit, SLOWEST)
                node = node * 2 + bit
            symbols[i] = np.uint16(node - (np.int64(1) << bits))
        near = (near * NEAR + min(rank, NEAR - 1)) % (NEAR * NEAR)
