"""Select a rank by histograms of one digit after the other, from the top: in the sample, a list, or all weights."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

from optprune_fast.ops.topk_threshold import device_plan
from optprune_fast.ops.topk_threshold.triton_keys import (
    BINS,
    CAPACITY,
    COUNTS,
    DIGITS,
    DIRECT,
    FIRST_TILE,
    HEADER,
    HISTOGRAMS,
    KEY,
    KNOWN,
    LIST,
    LISTED,
    LOWER,
    MISSED,
    NO_KEY,
    NO_LOWER,
    NO_UPPER,
    PREFIXES,
    QUOTA,
    RANK,
    RESULT,
    SAMPLE_RANKS,
    TENSORS,
    TIED,
    TIES,
    TILE_WORDS,
    TILES,
    UPPER,
    VERDICT,
    WANTED,
    load_keys,
    next_digit,
)

SAMPLES = tl.constexpr(device_plan.SAMPLES)
EXACT = tl.constexpr(4)  # the first select that is exact


@triton.jit
def digits_of(key, prefix, STEP: tl.constexpr):
    """(digit, whether it counts) of keys whose upper digits are `prefix`; digits of key + 1, which is not negative."""
    number = key + 1
    counts = number >= 0
    if STEP > 0:
        counts = counts & ((number >> (32 - 8 * STEP)) == prefix.to(tl.int32))
    return (number >> (24 - 8 * STEP)) & 255, counts


@triton.jit
def histogram_of(keys, stride, length, prefix, STEP: tl.constexpr, BLOCK: tl.constexpr):
    """This program's share of a histogram over `length` keys that lie `stride` apart."""
    found = tl.zeros((BINS,), tl.int32)
    first = tl.program_id(0).to(tl.int64) * BLOCK
    for start in range(first, length, tl.num_programs(0).to(tl.int64) * BLOCK):
        number = start + tl.arange(0, BLOCK)
        key = tl.load(keys + stride * number, mask=number < length, other=NO_KEY)
        digit, counts = digits_of(key, prefix, STEP)
        found += tl.histogram(digit, BINS, mask=counts)
    return found


@triton.jit
def histogram_of_weights(plan, owners, prefix, STEP: tl.constexpr, DROP: tl.constexpr):
    """The same over all weights."""
    found = tl.zeros((BINS,), tl.int32)
    tensors = tl.load(plan + TENSORS)
    for tile in range(tl.program_id(0).to(tl.int64), tl.load(plan + TILES), tl.num_programs(0).to(tl.int64)):
        fields = plan + HEADER + tl.load(owners + tile)
        key, _ = load_keys(fields, tensors, (tile - tl.load(fields + FIRST_TILE * tensors)) * TILE_WORDS, DROP)
        digit, counts = digits_of(tl.ravel(key), prefix, STEP)
        found += tl.histogram(digit, BINS, mask=counts)
    return found


@triton.jit
def add_histogram(state, select, STEP: tl.constexpr, found, prefix, rest):
    if tl.program_id(0) == 0:
        line = state + PREFIXES + 2 * (select * DIGITS + STEP)
        tl.store(line, prefix)
        tl.store(line + 1, rest)
    bins = tl.arange(0, BINS)
    histogram = state + HISTOGRAMS + (select * DIGITS + STEP) * BINS
    tl.atomic_add(histogram + bins, found.to(tl.int64), mask=found > 0, sem="relaxed")


@triton.jit
def sample_digit_kernel(plan, state, sample, STEP: tl.constexpr, BLOCK: tl.constexpr):
    """One digit of the bounds of the brackets. Programs [share, select]."""
    select = tl.program_id(1)
    if STEP > 0:
        prefix, rest = next_digit(state, select, STEP)
    else:
        rest = tl.load(plan + SAMPLE_RANKS + select)
        prefix = rest * 0
    found = histogram_of(sample, 1, tl.load(plan + SAMPLES), prefix, STEP, BLOCK)
    add_histogram(state, select, STEP, found, prefix, rest)


@triton.jit
def bracket_kernel(plan, state, RANKS: tl.constexpr):
    """The brackets (lower, upper]: one program.

    upper + 1 and lower are keys of the sample, so that the list has what lies strictly between and no dense tie can
    fill it. Where they are one key, it is surely dense: then the bracket is that key alone, and becomes a bitmap.
    """
    samples = tl.load(plan + SAMPLES)
    for j in tl.static_range(RANKS):
        above, _ = next_digit(state, 2 * j, DIGITS)
        below, _ = next_digit(state, 2 * j + 1, DIGITS)
        rank_above = tl.load(plan + SAMPLE_RANKS + 2 * j)
        above = tl.where((rank_above >= 1) & (rank_above <= samples), above - 1, NO_UPPER)
        below = tl.where(tl.load(plan + SAMPLE_RANKS + 2 * j + 1) <= samples, below - 1, NO_LOWER)
        none = tl.load(plan + WANTED + j) == 0
        ties = none | (above == below)
        above = tl.where(none, NO_UPPER - 1, above)
        below = tl.where(none, NO_UPPER, below)  # (NO_UPPER - 1, NO_UPPER - 1] is empty
        own = state + RANK * (j + 1)
        tl.store(own + LOWER, tl.where(ties, below - 1, below))
        tl.store(own + UPPER, tl.where(ties, above, above - 1))
        tl.store(own + TIES, ties.to(tl.int64))


@triton.jit
def judge(plan, state, j):
    """(verdict, key, quota, rest) of a rank, from what has been counted.

    verdict LIST: the key is that of rank `rest` in the list; MISSED: of rank `rest` among all weights; else it is
    `key`, and `quota` of the weights equal to it are kept.
    """
    wanted = tl.load(plan + WANTED + j)
    own = state + RANK * (j + 1)
    lower, upper = tl.load(own + LOWER), tl.load(own + UPPER)
    over, above = tl.load(own + COUNTS), tl.load(own + COUNTS + 1)      # keys > upper + 1, > upper
    reached, under = tl.load(own + COUNTS + 2), tl.load(own + COUNTS + 3)  # keys > lower, >= lower
    inside = (above < wanted) & (wanted <= reached)
    direct = tl.load(plan + DIRECT) != 0
    verdict = wanted * 0 + MISSED
    key, quota, rest = wanted * 0, wanted * 0, wanted
    if wanted == 0:
        verdict = wanted * 0 + tl.where(direct, KNOWN, TIED)
        key = NO_UPPER - 1 + wanted * 0
    elif direct:
        verdict = wanted * 0 + MISSED
    elif tl.load(own + TIES) != 0:
        if inside:
            verdict, key, quota = wanted * 0 + TIED, upper, wanted - above
    elif inside:
        if tl.load(own + LISTED) <= tl.load(plan + CAPACITY):
            verdict, rest = wanted * 0 + LIST, wanted - above
    elif (over < wanted) & (wanted <= above):
        verdict, key, quota = wanted * 0 + KNOWN, upper + 1, wanted - over
    elif (reached < wanted) & (wanted <= under):
        verdict, key, quota = wanted * 0 + KNOWN, lower, wanted - reached
    return verdict, key, quota, rest


@triton.jit
def exact_digit_kernel(plan, state, arena, owners, STEP: tl.constexpr, DROP: tl.constexpr, BLOCK: tl.constexpr):
    """One digit of the keys that are wanted, in the lists or, where a bracket missed, in all weights.

    arena: int32 [ranks, capacity, 2], places and keys. Programs [share, rank]
    """
    j = tl.program_id(1)
    own = state + RANK * (j + 1)
    if STEP > 0:
        verdict = tl.load(own + VERDICT)
        prefix, rest = next_digit(state, EXACT + j, STEP)
    else:
        verdict, key, quota, rest = judge(plan, state, j)
        prefix = rest * 0
        if tl.program_id(0) == 0:
            tl.store(own + VERDICT, verdict)
            tl.store(own + KEY, key)
            tl.store(own + QUOTA, quota)
    if verdict == LIST:
        keys = arena + 2 * j.to(tl.int64) * tl.load(plan + CAPACITY) + 1
        found = histogram_of(keys, 2, tl.load(own + LISTED), prefix, STEP, BLOCK)
        add_histogram(state, EXACT + j, STEP, found, prefix, rest)
    elif verdict == MISSED:
        found = histogram_of_weights(plan, owners, prefix, STEP, DROP)
        add_histogram(state, EXACT + j, STEP, found, prefix, rest)


@triton.jit
def key_kernel(plan, state, RANKS: tl.constexpr):
    """The keys that are wanted, and how many of the weights equal to each are kept: one program.

    Where the key is not that of the list or of the bitmap, the next pass makes a bitmap for it.
    """
    for j in tl.static_range(RANKS):
        own = state + RANK * (j + 1)
        verdict = tl.load(own + VERDICT)
        key, quota = tl.load(own + KEY), tl.load(own + QUOTA)
        if (verdict == LIST) | (verdict == MISSED):
            above, quota = next_digit(state, EXACT + j, DIGITS)
            key = above - 1
        tl.store(own + KEY, key)
        tl.store(own + QUOTA, quota)
        if verdict != LIST:
            tl.store(own + LOWER, key - 1)
            tl.store(own + UPPER, key)
            tl.store(own + TIES, 1)
        if j == 0:
            tl.store(state + RESULT, key)
