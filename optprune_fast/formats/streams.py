"""The parts of `Entropy` as bytes: what is coded, around the loops in numba_mask.py and numba_exponents.py."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from torch import Tensor

from optprune_fast.runtime.errors import BackendError, message

Array = np.ndarray[Any, Any]
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
SIGNED = {2: np.int16, 4: np.int32, 8: np.int64}
RANKS = 8               # exponents that are asked for one by one
_PER_BYTE = 8 * 2841    # positions that a byte can stand for: no probability is closer to 1 than 1 - 16/65536
_STEP = 1 << 20         # values that are put together at a time, a multiple of 8
_SMALL = 1 << 20        # masks up to this size are coded both ways, and the shorter one is kept

# Levels of a density, as odds against those of the whole mask.
_COLUMN_ODDS = ((1, 8), (1, 4), (2, 5), (4, 7), (5, 7), (6, 7), (7, 6), (7, 5), (7, 4), (5, 2), (4, 1), (8, 1))
_ROW_ODDS = ((1, 4), (1, 2), (4, 5), (5, 4), (2, 1), (4, 1))


def unsigned(integers: Tensor) -> Array:
    """The memory of a CPU tensor as unsigned integers of its size."""
    array: Array = integers.numpy()
    return array.view(UNSIGNED[array.itemsize])


def most(length: int) -> int:
    """How many bits of a mask `length` bytes can stand for at most."""
    return _PER_BYTE * (length + 8)


def encode_mask(words: Array, columns: int, kept: int) -> tuple[bytes, bool]:
    """uint64 words [O, W] -> bytes, and whether densities were the context. Nothing where everything is kept."""
    numel = words.shape[0] * columns
    if kept == numel:
        return b"", False
    ways = (False, True) if numel <= _SMALL else (True,)
    coded = {way: _encoded(_loops("numba_mask").encode, numel // 32, words, columns, *_contexts(kept, numel, way))
             for way in ways}
    best = min(coded, key=lambda way: len(coded[way]))
    return coded[best], best


def decode_mask(data: Array, words: Array, columns: int, kept: int, contextual: bool) -> None:
    """Fill uint64 words [O, W], which are zero, from uint8 data; bits past the last column stay zero."""
    numel = words.shape[0] * columns
    if kept == numel:
        words[:] = np.uint64(0xFFFFFFFFFFFFFFFF)
        if columns % 64:  # else there is no tail, or no word
            words[:, -1] = np.uint64((1 << columns % 64) - 1)
        return
    _loops("numba_mask").decode(_in_words(data), columns, *_contexts(kept, numel, contextual), words)


def encode_exponents(exponents: Array, bits: int) -> tuple[bytes, tuple[int, ...]]:
    """Exponents [n] of `bits` bits -> bytes, and the commonest, commonest first."""
    if not len(exponents):
        return b"", ()
    counts = np.bincount(exponents, minlength=1 << bits)
    order = np.argsort(-counts, kind="stable")[:RANKS]
    ranks = tuple(int(symbol) for symbol in order if counts[symbol])
    rank_of = np.full(1 << bits, RANKS, np.int64)
    rank_of[list(ranks)] = np.arange(len(ranks))
    return _encoded(_loops("numba_exponents").encode, len(exponents) // 16, exponents.astype(np.uint16), rank_of, bits,
                    *_questions(bits)), ranks


def decode_exponents(data: Array, kept: int, bits: int, ranks: tuple[int, ...]) -> Array:
    """uint8 data -> uint16 [kept]."""
    symbols = np.zeros(kept, np.uint16)
    if kept:
        symbol_of = np.zeros(RANKS, np.int64)
        symbol_of[: len(ranks)] = ranks
        _loops("numba_exponents").decode(_in_words(data), symbol_of, bits, *_questions(bits), symbols)
    return symbols


def pack_mantissas(bits: Array, exponent: int, mantissa: int) -> tuple[bytes, int]:
    """Signs and mantissas, and how many lowest bits are zero in all of them and left out."""
    low = bits & ((1 << mantissa) - 1)
    used = int(np.bitwise_or.reduce(low)) if len(low) else 0
    zeros = (used & -used).bit_length() - 1 if used else mantissa
    field = (low >> zeros) | (bits >> (exponent + mantissa)) << (mantissa - zeros)
    whole, left = divmod(1 + mantissa - zeros, 8)
    planes = [(field >> 8 * k).astype(np.uint8).tobytes() for k in range(whole)]
    if left:
        rest = (field >> 8 * whole).astype(np.uint8)
        each = np.stack([rest >> k & 1 for k in range(left)], 1)
        planes.append(np.packbits(each.reshape(-1), bitorder="little").tobytes())
    return b"".join(planes), zeros


def join(raw: Array, symbols: Array, exponent: int, mantissa: int, zeros: int) -> Array:
    """The bits of the values, from what `pack_mantissas` made (uint8) and their exponents (uint16 [kept])."""
    kept, kind = len(symbols), UNSIGNED[(1 + exponent + mantissa) // 8]
    out, width = np.empty(kept, kind), mantissa - zeros
    whole, left = divmod(1 + width, 8)
    for begin in range(0, kept, _STEP):  # what is made on the way stays small
        end = min(kept, begin + _STEP)
        field = np.zeros(end - begin, kind)
        for k in range(whole):
            field |= raw[k * kept + begin : k * kept + end].astype(kind) << 8 * k
        if left:
            packed = raw[whole * kept + begin * left // 8 :]
            each = np.unpackbits(packed, bitorder="little", count=(end - begin) * left).reshape(-1, left)
            for k in range(left):
                field |= each[:, k].astype(kind) << (8 * whole + k)
        low, sign = field & ((1 << width) - 1), field >> width
        out[begin:end] = sign << (exponent + mantissa) | symbols[begin:end].astype(kind) << mantissa | low << zeros
    return out


def packed_size(kept: int, width: int) -> int:
    """Bytes that `pack_mantissas` takes for values of `width` bits without their exponents."""
    return kept * (width // 8) + -(-kept * (width % 8) // 8)


def _loops(name: str) -> Any:
    """Compiled at their first call; Numba is not imported before."""
    from optprune_fast.ops.numba_support import missing

    if reason := missing():
        raise BackendError(message("entropy", reason, "target='cpu' and target='gpu' need no coder"))
    return importlib.import_module(f"optprune_fast.formats.{name}")


def _contexts(kept: int, numel: int, contextual: bool) -> tuple[Any, ...]:
    """Density, levels of columns and of rows, and the probability of each context: what both directions start with."""
    loops, bits = _loops("numba_mask"), _loops("numba_coder").P_BITS
    density = min(max((kept << bits) // numel, 1), (1 << bits) - 1)
    columns, rows = (_levels(kept, numel, odds if contextual else (), loops.TABLE_BITS)
                     for odds in (_COLUMN_ODDS, _ROW_ODDS))
    return density, columns, rows, np.full((len(_COLUMN_ODDS) + 1) * loops.ROW_LEVELS * loops.NEAR, density, np.int64)


def _levels(kept: int, numel: int, odds: tuple[tuple[int, int], ...], bits: int) -> Array:
    """uint8 [2^bits]: how many of the odds each density reaches. Whole numbers alone, or machines would differ."""
    bounds = [(kept * a << bits) // (kept * a + (numel - kept) * b) for a, b in odds]
    return np.searchsorted(np.array(bounds, np.int64), np.arange(1 << bits), side="right").astype(np.uint8)


def _questions(bits: int) -> tuple[Array, Array]:
    """Even odds for every question about an exponent."""
    loops, even = _loops("numba_exponents"), 1 << (_loops("numba_coder").P_BITS - 1)
    return np.full(loops.NEAR**2 * RANKS, even, np.int64), np.full(1 << bits, even, np.int64)


def _encoded(encode: Any, guess: int, *arguments: Any) -> bytes:
    """Run a loop with a buffer that suffices.

    Zeros of the last 8 bytes are left out, since the decoder adds them: no more, or a few bytes could stand for any
    number of bits that are coded by staying at the lower end of the interval.
    """
    room = guess + 64
    while True:
        fresh = [part.copy() if isinstance(part, np.ndarray) and part.dtype == np.int64 else part for part in arguments]
        out = np.zeros(room, np.uint32)
        filled = encode(*fresh, out)
        if filled >= 0:
            coded = out[:filled].astype(">u4").tobytes()
            return bytes(coded[:-8] + coded[-8:].rstrip(b"\0"))
        room *= 2


def _in_words(data: Array) -> Array:
    """Bytes (uint8) as big-endian 32-bit words, filled up with zeros."""
    return np.pad(data, (0, -len(data) % 4)).view(">u4").astype(np.uint32)
