"""The pass over the weights: words of what is above the bracket; what is inside goes to a list, or into a bitmap."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

from optprune_fast.ops.topk_threshold import device_plan
from optprune_fast.ops.topk_threshold.triton_keys import (
    ADDRESS,
    CAPACITY,
    COUNTS,
    FIRST_TILE,
    FIRST_WORD,
    HALF,
    HALVES,
    HEADER,
    INFINITY,
    KIND,
    KNOWN,
    LISTED,
    LOWER,
    MISSED,
    NANS,
    RANK,
    TENSOR_WORDS,
    TENSORS,
    TIES,
    TILE_WORDS,
    TILES,
    UPPER,
    VERDICT,
    keys_at,
    load_keys,
    pack,
    popcount,
)

WORDS_ADDRESS = tl.constexpr(device_plan.WORDS_ADDRESS)
POOL_ADDRESS = tl.constexpr(device_plan.POOL_ADDRESS)


@triton.jit
def is_redone(state, j):
    """Whether the second pass has to mark this rank anew."""
    verdict = tl.load(state + RANK * (j + 1) + VERDICT)
    return (verdict == KNOWN) | (verdict == MISSED)


@triton.jit
def list_keys(own, room, address, kind, memory, bits, before, DROP: tl.constexpr):
    """Write entries (place, key) of the bits of a tile, in the order of their places, of which `room` find room.

    bits:    int32 [HALVES]; memory: where each half-word's first weight is; before: bits of earlier half-words

    They are few, so each is read again, which is cheaper than to move all keys of a tile.
    """
    for nth in range(tl.max(popcount(bits), axis=0)):
        there = bits != 0
        lane = popcount((bits & -bits) - 1)
        bits = bits & (bits - 1)
        key = keys_at(address, kind, memory + lane, there, DROP)
        entry = own + 2 * (before + nth)
        fits = there & (before + nth < room)
        tl.store(entry, tl.arange(0, HALVES) * HALF + lane, mask=fits)
        tl.store(entry + 1, key, mask=fits)


@triton.jit
def collect(plan, state, arena, segments, fields, j, tile, local, memory, bits, DROP: tl.constexpr):
    """Put what is in the bracket of rank j, bits int32 [HALVES] of a tile, where it belongs. Returns how many it is."""
    tiles, tensors, capacity = tl.load(plan + TILES), tl.load(plan + TENSORS), tl.load(plan + CAPACITY)
    own = arena + 2 * capacity * j
    in_half = popcount(bits)
    count = tl.sum(in_half, axis=0).to(tl.int64)
    start = count * 0
    if tl.load(state + RANK * (j + 1) + TIES) != 0:
        half = tl.arange(0, HALVES)
        word = tl.load(fields + FIRST_WORD * tensors) + local
        room = 2 * (tl.load(fields + TENSOR_WORDS * tensors) - local)
        tl.store(own + 2 * word + half, bits, mask=half < room)
    elif count > 0:
        start = tl.atomic_add(state + RANK * (j + 1) + LISTED, count, sem="relaxed")
        address, kind = tl.load(fields + ADDRESS * tensors), tl.load(fields + KIND * tensors)
        before = tl.cumsum(in_half, axis=0) - in_half
        list_keys(own + 2 * start, capacity - start, address, kind, memory, bits, before, DROP)
    tl.store(segments + 2 * tiles * j + tile, start)
    tl.store(segments + 2 * tiles * j + tiles + tile, count)
    return count


@triton.jit
def count_edges(key, lower, upper):
    """Keys equal to upper + 1, and to lower."""
    both = tl.sum((key == upper + 1).to(tl.int32) + ((key == lower).to(tl.int32) << 16))  # fewer than 2^16 in a tile
    return (both & 0xFFFF).to(tl.int64), (both >> 16).to(tl.int64)


@triton.jit
def add_counts(state, j, at_upper, above, inside, at_lower):
    counts = state + RANK * (j + 1) + COUNTS
    tl.atomic_add(counts, above - at_upper, sem="relaxed")
    tl.atomic_add(counts + 1, above, sem="relaxed")
    tl.atomic_add(counts + 2, above + inside, sem="relaxed")
    tl.atomic_add(counts + 3, above + inside + at_lower, sem="relaxed")


@triton.jit
def mark_kernel(plan, state, owners, arena, segments, RANKS: tl.constexpr, AGAIN: tl.constexpr, DROP: tl.constexpr):
    """Programs share the tiles.

    arena:     int32 [ranks, capacity, 2], entries (place in the tile, key); or the words of a bitmap
    segments:  int64 [ranks, 2, tiles], where a tile's entries start and how many they are
    AGAIN:     mark anew the ranks whose key was not where it was looked for; with no such rank there is nothing to do
    """
    first = state + RANK
    second = state + RANK * RANKS
    lower, upper = tl.load(first + LOWER).to(tl.int32), tl.load(first + UPPER).to(tl.int32)
    pool_lower, pool_upper = tl.load(second + LOWER).to(tl.int32), tl.load(second + UPPER).to(tl.int32)
    redo, pool_redo = True, True
    end, tensors = tl.load(plan + TILES), tl.load(plan + TENSORS)
    if AGAIN:
        redo, pool_redo = is_redone(state, 0), is_redone(state, RANKS - 1)
        end = tl.where(redo | pool_redo, end, 0)
    above, inside, at_upper, at_lower = end * 0, end * 0, end * 0, end * 0
    pool_above, pool_inside, pool_at_upper, pool_at_lower = end * 0, end * 0, end * 0, end * 0
    for tile in range(tl.program_id(0).to(tl.int64), end, tl.num_programs(0).to(tl.int64)):
        tensor = tl.load(owners + tile)
        fields = plan + HEADER + tensor
        local = (tile - tl.load(fields + FIRST_TILE * tensors)) * TILE_WORDS
        key, memory = load_keys(fields, tensors, local, DROP)
        if tl.max(key) > INFINITY:
            tl.atomic_max(state + NANS, tensors - tensor, sem="relaxed")  # the first tensor is the most
        half = tl.arange(0, HALVES)
        there = half < 2 * (tl.load(fields + TENSOR_WORDS * tensors) - local)
        words = tl.load(fields + WORDS_ADDRESS * tensors).to(tl.pointer_type(tl.int32)) + 2 * local
        bits = pack(key > upper)
        tl.store(words + half, bits, mask=there)
        if redo:
            in_bracket = pack((key > lower) & (key <= upper))
            inside += collect(plan, state, arena, segments, fields, 0, tile, local, memory, in_bracket, DROP)
        if not AGAIN:
            above += tl.sum(popcount(bits), axis=0)
            u, e = count_edges(key, lower, upper)
            at_upper, at_lower = at_upper + u, at_lower + e
        if RANKS == 2:
            pool = tl.load(fields + POOL_ADDRESS * tensors).to(tl.pointer_type(tl.int32)) + 2 * local
            pool_bits = pack(key > pool_upper)
            tl.store(pool + half, pool_bits & ~bits, mask=there)
            if pool_redo:
                in_bracket = pack((key > pool_lower) & (key <= pool_upper))
                pool_inside += collect(plan, state, arena, segments, fields, 1, tile, local, memory, in_bracket, DROP)
            if not AGAIN:
                pool_above += tl.sum(popcount(pool_bits), axis=0)
                u, e = count_edges(key, pool_lower, pool_upper)
                pool_at_upper, pool_at_lower = pool_at_upper + u, pool_at_lower + e
    if not AGAIN:
        add_counts(state, 0, at_upper, above, inside, at_lower)
        if RANKS == 2:
            add_counts(state, 1, pool_at_upper, pool_above, pool_inside, pool_at_lower)
