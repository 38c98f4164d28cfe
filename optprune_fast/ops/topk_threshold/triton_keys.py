"""What the Triton kernels of topk_threshold share: the plan, the state, keys, digits. Importing it imports Triton."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

from optprune_fast.ops.topk_threshold import device_plan

TENSORS = tl.constexpr(device_plan.TENSORS)
TILES = tl.constexpr(device_plan.TILES)
CAPACITY = tl.constexpr(device_plan.CAPACITY)
DIRECT = tl.constexpr(device_plan.DIRECT)
WANTED = tl.constexpr(device_plan.WANTED)
SAMPLE_RANKS = tl.constexpr(device_plan.SAMPLE_RANKS)
HEADER = tl.constexpr(device_plan.HEADER)
FIRST_TILE = tl.constexpr(device_plan.FIRST_TILE)
FIRST_WORD = tl.constexpr(device_plan.FIRST_WORD)
TENSOR_WORDS = tl.constexpr(device_plan.TENSOR_WORDS)
ADDRESS = tl.constexpr(device_plan.ADDRESS)
COLUMNS = tl.constexpr(device_plan.COLUMNS)
STEP = tl.constexpr(device_plan.STEP)
ROW_WORDS = tl.constexpr(device_plan.ROW_WORDS)
KIND = tl.constexpr(device_plan.KIND)
WIDE_LOADS = tl.constexpr(device_plan.WIDE_LOADS)
INFINITY = tl.constexpr(device_plan.INFINITY)

TILE_WORDS = tl.constexpr(64)
HALVES = tl.constexpr(128)  # half-words of a tile: a sum of 32 bits fits a register
HALF = tl.constexpr(32)
# No key: outside of a row. Below every bound, so that nothing counts it.
NO_KEY = tl.constexpr(-3)
NO_UPPER = tl.constexpr(0x7FFFFFFF)
NO_LOWER = tl.constexpr(-2)
DROPPED_NAN = tl.constexpr(-1)
KEPT_NAN = tl.constexpr(device_plan.INFINITY + 1)

# State: RANK numbers for each rank, then for each select (prefix, rest) a digit, then its histograms. Zero at first.
RESULT = tl.constexpr(0)  # the key of the first rank, and NANS
NANS = tl.constexpr(1)
RANK = tl.constexpr(16)
(LOWER, UPPER, TIES, VERDICT, KEY, QUOTA, LISTED, COUNTS) = (tl.constexpr(i) for i in range(8))
DIGITS = tl.constexpr(4)
BINS = tl.constexpr(256)
PREFIXES = tl.constexpr(64)
HISTOGRAMS = tl.constexpr(64 + 6 * 4 * 2)  # 4 selects in the sample, 2 that are exact
STATE = 64 + 6 * 4 * (2 + 256)
# Verdicts on a bracket, once everything is counted.
(LIST, TIED, KNOWN, MISSED) = (tl.constexpr(i) for i in range(4))


@triton.jit
def key_of(raw, kind):
    """A magnitude as an integer that grows with it, the float32 without its sign, from 16 bits in an int32."""
    upper = (raw << 16) & 0x7FFFFFFF
    half = raw.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32).to(tl.int32, bitcast=True) & 0x7FFFFFFF
    return tl.where(kind == 1, upper, half)


@triton.jit
def settle_nan(key, DROP: tl.constexpr):
    """All NaN are one key: above infinity, or below zero."""
    return tl.where(key > INFINITY, DROPPED_NAN if DROP else KEPT_NAN, key)


@triton.jit
def keys_at(address, kind, place, mask, DROP: tl.constexpr):
    """Keys of single weights; `address` and `kind` are those of one tensor, or one for each."""
    full = tl.load(address.to(tl.pointer_type(tl.int32)) + place, mask=mask & (kind == 0), other=0) & 0x7FFFFFFF
    narrow = tl.load(address.to(tl.pointer_type(tl.int16)) + place, mask=mask & (kind != 0), other=0)
    return settle_nan(tl.where(kind == 0, full, key_of(narrow.to(tl.int32), kind)), DROP)


@triton.jit
def load_keys(fields, tensors, first, DROP: tl.constexpr):
    """Keys int32 [HALVES, HALF] of the tile that starts at word `first` of a tensor, NO_KEY where there is no weight;
    and where in memory each half-word's first weight is, int64 [HALVES].

    fields:  where the plan has the tensor's first field; the next ones are `tensors` numbers apart
    """
    address = tl.load(fields + ADDRESS * tensors)
    columns = tl.load(fields + COLUMNS * tensors)
    row_words = tl.load(fields + ROW_WORDS * tensors)
    all_words = tl.load(fields + TENSOR_WORDS * tensors)
    kind = tl.load(fields + KIND * tensors)
    half = tl.arange(0, HALVES)
    lane = tl.arange(0, HALF)[None, :]
    start = first * 64 + half * HALF
    wide = (row_words == all_words) & (tl.load(fields + WIDE_LOADS * tensors) != 0)
    if wide & ((first + TILE_WORDS) * 64 <= columns):
        # Nothing to mask, and the compiler is told that 16 divides the address: 16 bytes a load.
        if kind == 0:
            full = address.to(tl.pointer_type(tl.int32)) + first * 64
            key = tl.load(tl.multiple_of(full, 16) + (half[:, None] * HALF + lane)) & 0x7FFFFFFF
        else:
            narrow = address.to(tl.pointer_type(tl.int16)) + first * 64
            key = key_of(tl.load(tl.multiple_of(narrow, 16) + (half[:, None] * HALF + lane)).to(tl.int32), kind)
        key = settle_nan(key, DROP)
    else:
        row = first // row_words
        word = (first - row * row_words).to(tl.int32) + half // 2  # below 2^31: MOST_ROW_WORDS
        below = word // row_words.to(tl.int32)
        column = (word - below * row_words.to(tl.int32)).to(tl.int64) * 64 + half % 2 * HALF
        start = (row + below) * tl.load(fields + STEP * tensors) + column
        inside = (first + half // 2 < all_words)[:, None] & (lane < (columns - column)[:, None])
        key = tl.where(inside, keys_at(address, kind, start[:, None] + lane, inside, DROP), NO_KEY)
    return key, start


@triton.jit
def next_digit(state, select, step: tl.constexpr):
    """(prefix, rest) after `step` digits of a select: upper bits of key + 1, and its rank among those that share them.

    Every digit's histogram is complete when a launch ends; the next one starts here.
    """
    line = select * DIGITS + step - 1
    prefix = tl.load(state + PREFIXES + 2 * line)
    rest = tl.load(state + PREFIXES + 2 * line + 1)
    counts = tl.load(state + HISTOGRAMS + line * BINS + (BINS - 1) - tl.arange(0, BINS))
    reached = tl.cumsum(counts, axis=0)
    short = reached < rest
    digit = (BINS - 1) - tl.sum(short.to(tl.int64), axis=0)
    return prefix * BINS + digit, rest - tl.max(tl.where(short, reached, 0), axis=0)


@triton.jit
def pack(bits):
    """int32 [rows] from booleans [rows, HALF]."""
    return tl.sum(tl.where(bits, 1 << tl.arange(0, HALF)[None, :], 0), axis=1)


@triton.jit
def popcount(bits):
    """Ones in each int32. The masks clear the sign that a shift drags in."""
    pairs = bits - ((bits >> 1) & 0x55555555)
    fours = (pairs & 0x33333333) + ((pairs >> 2) & 0x33333333)
    return (((fours + (fours >> 4)) & 0x0F0F0F0F) * 0x01010101) >> 24
