"""Keys: magnitudes as whole numbers. With the sign bit cleared, the bits of a float grow with its magnitude.

Whole numbers have no denormals, so no rank depends on whether the processor flushes them.
"""

from __future__ import annotations

import math
import struct

import torch
from torch import Tensor

INFINITY_32 = 0x7F800000
INFINITY_64 = 0x7FF << 52
_LARGEST_32 = math.ldexp((1 << 24) - 1, 104)


def keys32(weight: Tensor) -> Tensor:
    """int32: the key of each magnitude of a float32, float16 or bfloat16 tensor as a float32."""
    if weight.dtype == torch.float16:
        weight = weight.float()  # exact, and no float16, denormal or not, becomes a denormal float32
    if weight.dtype == torch.bfloat16:  # the upper half of a float32
        return (weight.view(torch.int16).to(torch.int32) << 16) & 0x7FFFFFFF
    return weight.view(torch.int32) & 0x7FFFFFFF


def keys64(weight: Tensor) -> Tensor:
    """int64: the key of each magnitude as a float64.

    float32   eeeeeeee fff…f (23)             value = 2^(e - 127) · 1.f,  e = 0: 2^-149 · f,  e = 255: infinite
    float64   eeeeeeeeeee fff…f 000…0 (52)    value = 2^(e - 1023) · 1.f
    """
    if weight.dtype == torch.float64:
        return weight.view(torch.int64) & 0x7FFFFFFFFFFFFFFF
    key = keys32(weight).to(torch.int64)
    normal = (key << 29) + ((1023 - 127) << 52)
    denormal = (key.to(torch.float64) * 2.0**-149).view(torch.int64)  # as a float64 it is normal: nothing flushes it
    wide = torch.where(key < 1 << 23, denormal, normal)
    return torch.where(key >= INFINITY_32, INFINITY_64 + (key > INFINITY_32), wide)


def ranked(keys: Tensor, infinity: int, drop: bool) -> Tensor:
    """The keys, in place, with one key for every NaN: the one above infinity, or -1, below zero."""
    return keys.masked_fill_(keys > infinity, -1) if drop else keys.clamp_(max=infinity + 1)


def magnitude32(key: int) -> float:
    """The magnitude of a float32 key; NaN for keys that are none.

    >>> magnitude32(1), magnitude32(0x3F800000), magnitude32(INFINITY_32), magnitude32(-1)
    (1.401298464324817e-45, 1.0, inf, nan)
    """
    if not 0 <= key < INFINITY_32:
        return math.inf if key == INFINITY_32 else math.nan
    exponent, fraction = divmod(key, 1 << 23)
    return math.ldexp(fraction + (1 << 23), exponent - 150) if exponent else math.ldexp(fraction, -149)


def magnitude64(key: int) -> float:
    """The magnitude of a float64 key; NaN for keys that are none."""
    if not 0 <= key <= INFINITY_64:
        return math.nan
    value: float = struct.unpack("<d", struct.pack("<q", key))[0]
    return value


def key32(magnitude: float) -> int:
    """The key of a magnitude rounded to float32.

    >>> key32(1.0) == 0x3F800000, key32(1e300) == key32(math.inf) - 1
    (True, True)
    """
    rounded = magnitude if magnitude == math.inf else min(magnitude, _LARGEST_32)
    key: int = struct.unpack("<i", struct.pack("<f", rounded))[0]
    return key
