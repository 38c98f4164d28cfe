"""An adaptive binary range coder: the loops (formats/entropy.py says what they code).

    interval  [low, low + span) of 64 bits       p: probability of a 1, of 65536
    a 1 takes the lower part  span // 65536 · p, a 0 the rest; 32 bits leave whenever span falls below 2^32

Source of the method: G. N. N. Martin, "Range encoding", 1979; probabilities that adapt as in the LZMA coder, here by
1 / (times seen), which for a constant source is its frequency. All of it is integer arithmetic: equal bytes everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optprune_fast.ops.numba_support import called

P_BITS = 22      # of a probability as it is held: fine steps, so that slow adaption does not get stuck
P_LEAST = 16     # of 65536: no symbol costs less than 1/2840 bit, so a stream bounds how much it can stand for
SLOWEST = 1023   # a probability follows 1 / (times seen), and no slower than this

RATE = np.array([(1 << 17) // (2 * n + 3) for n in range(SLOWEST + 1)], dtype=np.int64)  # of 65536

_32, _16, _TOP = np.uint64(32), np.uint64(16), np.uint64(1 << 32)


@called
def probability(p: Any) -> Any:
    """The probability that is coded with: 16 bits, never certain."""
    return np.uint64(min(max(p >> (P_BITS - 16), P_LEAST), 65536 - P_LEAST))


@called
def adapt(p: Any, seen: Any, at: Any, bit: Any, slowest: Any) -> None:
    """Move p[at] towards the bit."""
    n = seen[at]
    p[at] += (((bit << P_BITS) - p[at]) * RATE[n]) >> 16
    if n < slowest:
        seen[at] = n + 1


@called
def put(low: Any, span: Any, at: Any, out: Any, bit: Any, p: Any) -> Any:
    """Code a bit: the new interval and place in `out` (uint32)."""
    bound = (span >> _16) * p
    if bit:
        span = bound
    else:
        span -= bound
        before = low
        low += bound
        if low < before:  # a carry runs into what has left already
            k = at - 1
            while out[k] == np.uint32(0xFFFFFFFF):
                out[k] = np.uint32(0)
                k -= 1
            out[k] += np.uint32(1)
    if span < _TOP:
        out[at] = np.uint32(low >> _32)
        at += 1
        low <<= _32
        span <<= _32
    return low, span, at


@called
def get(code: Any, span: Any, at: Any, data: Any, p: Any) -> Any:
    """Decode a bit; past the end of `data` (uint32) there are zeros."""
    bound = (span >> _16) * p
    bit = 0
    if code < bound:
        bit = 1
        span = bound
    else:
        code -= bound
        span -= bound
    if span < _TOP:
        code <<= _32
        if at < data.size:
            code |= np.uint64(data[at])
        at += 1
        span <<= _32
    return bit, code, span, at


@called
def finish(low: Any, span: Any, at: Any, out: Any) -> Any:
    """The shortest end: a number of the interval with as many zeros below as there can be."""
    value = low
    for zeros in range(63, 0, -1):
        below = (np.uint64(1) << np.uint64(zeros)) - np.uint64(1)
        value = (low + below) & ~below
        if value - low < span:
            break
    if value < low:
        k = at - 1
        while out[k] == np.uint32(0xFFFFFFFF):
            out[k] = np.uint32(0)
            k -= 1
        out[k] += np.uint32(1)
    out[at] = np.uint32(value >> _32)
    out[at + 1] = np.uint32(value & (_TOP - np.uint64(1)))
    return at + 2


@called
def start(data: Any) -> Any:
    """The first 64 bits."""
    first = np.uint64(data[0]) if data.size > 0 else np.uint64(0)
    second = np.uint64(data[1]) if data.size > 1 else np.uint64(0)
    return (first << _32) | second
