"""Brackets in the keys of each type, so that weights are compared as they are stored.

Tensors of one type are ranked by its own keys; those of several by common ones, which are the keys of a float32, or of
a float64 where one of the tensors is.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optprune_fast.ops.topk_threshold.keys import (
    INFINITY_32,
    INFINITY_64,
    keys32,
    keys64,
    magnitude32,
    magnitude64,
    ranked,
)

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
STORED = (torch.int32, torch.int16, torch.int16, torch.int64)
INFINITIES = (INFINITY_32, 0x7C00, 0x7F80, INFINITY_64)
ALL = (1 << 31) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 63) - 1
_WIDER = 1023 - 127

Array = np.ndarray[Any, Any]


class Ranking:
    """The keys that tensors of some types are ranked by.

    >>> halves, mixed = Ranking({1}), Ranking({0, 1})
    >>> [hex(ranking.infinity) for ranking in (halves, mixed)]
    ['0x7c00', '0x7f800000']
    >>> halves.magnitude(0x3C00), mixed.magnitude(0x3F800000)
    (1.0, 1.0)
    """

    def __init__(self, kinds: set[int]) -> None:
        self.kinds, self.wide = kinds, 3 in kinds
        self._only = next(iter(kinds)) if len(kinds) == 1 else None
        self.mixed = self._only is None
        self.dtype = np.int64 if self.wide else np.int16 if self._only in (1, 2) else np.int32
        self.infinity = INFINITIES[3 if self.wide else 0] if self._only is None else INFINITIES[self._only]

    def make_common(self, keys: Array, kinds: Array) -> None:
        """Of keys of several types, in place; kinds: the type of each, or of each row."""
        for kind in self.kinds:
            of_kind = kinds == kind
            keys[of_kind] = common(torch.from_numpy(keys[of_kind]), kind, self.wide).numpy()

    def levels(self, lo: int, hi: int, drop: bool) -> Array:
        """`levels` of numba_pass: certain are keys > hi, in question those in [lo, hi]."""
        levels = np.zeros((len(DTYPES), 4), np.int64)
        for kind in self.kinds:
            limit = INFINITIES[kind] if drop else ALL[kind]
            levels[kind] = self._own(kind, hi), self._own(kind, lo - 1), limit, INFINITIES[kind]
        return levels

    def from_float32(self, key: int) -> int:
        """The largest key that is at most that of a float32; not where there are float64."""
        return key if self._only is None else own_at_most(self._only, key, wide=False)

    def magnitude(self, key: int) -> float:
        if self._only is not None:
            key = int(common(torch.tensor([key]), self._only, self.wide))
        return magnitude64(key) if self.wide else magnitude32(key)

    def _own(self, kind: int, key: int) -> int:
        if self._only is None:
            return own_at_most(kind, key, self.wide)
        return key if key <= self.infinity else ALL[kind]


def common(own: Tensor, kind: int, wide: bool) -> Tensor:
    """The common keys, int64, of keys of one type; -1 stays, and every NaN is one key.

    >>> common(torch.tensor([0x3C00, -1, 0x7E00]), 1, wide=False).tolist() == [0x3F800000, -1, INFINITY_32 + 1]
    True
    """
    weights = own.clamp(min=0).to(STORED[kind]).view(DTYPES[kind])
    keys = (keys64(weights) if wide else keys32(weights)).to(torch.int64)
    return torch.where(own < 0, own, ranked(keys, INFINITY_64 if wide else INFINITY_32, drop=False))


def own_at_most(kind: int, key: int, wide: bool) -> int:
    """The largest key of a type whose common key is at most `key`; `key` itself where that is negative.

    >>> own_at_most(1, 0x3F800001, wide=False) == 0x3C00
    True
    """
    if key < 0:
        return key
    if key > (INFINITY_64 if wide else INFINITY_32):
        return ALL[kind]
    if kind == 1:
        return int(torch.searchsorted(_halves(wide), key, right=True)) - 1
    if kind == 3 or not wide:
        return key >> 16 if kind == 2 else key
    return _float32_at_most(key) >> (16 if kind == 2 else 0)


@functools.cache
def _halves(wide: bool) -> Tensor:
    """The common key of every float16, up to infinity."""
    return common(torch.arange(INFINITIES[1] + 1), 1, wide)


def _float32_at_most(key: int) -> int:
    """Of the key of a float64 the largest of a float32, by shifts: conversions may flush denormals."""
    exponent, fraction = (key >> 52) - _WIDER, key & ((1 << 52) - 1)
    if exponent >= 255:
        return INFINITY_32 - (key < INFINITY_64)
    if exponent > 0:
        return exponent << 23 | fraction >> 29
    return (1 << 52 | fraction) >> (30 - exponent) if exponent > -24 else 0
