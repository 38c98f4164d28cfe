"""Which of the weights in the bracket are kept: those above the key, and of those equal to it the first."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

from optprune_fast.ops.topk_threshold import device_plan
from optprune_fast.ops.topk_threshold.triton_keys import (
    CAPACITY,
    FIRST_TILE,
    FIRST_WORD,
    HALF,
    HALVES,
    HEADER,
    KEY,
    LIST,
    NO_KEY,
    QUOTA,
    RANK,
    TENSOR_WORDS,
    TENSORS,
    TILE_WORDS,
    TILES,
    VERDICT,
    pack,
)
from optprune_fast.ops.topk_threshold.triton_mark import POOL_ADDRESS, WORDS_ADDRESS

# Tiles of a program: most have a few entries, and to wait for those of one is to wait for those of all.
BATCH = tl.constexpr(device_plan.BATCH_TILES)
CHUNK = tl.constexpr(32)  # entries of a tile, or half-words, at a time
BATCHES = tl.constexpr(1024)  # batches at a time, where their ties are added up


@triton.jit
def entries(plan, arena, j, start, count, at):
    """(keys, places) [BATCH, CHUNK] of entries `at` … of each tile's part of the list; NO_KEY past its end."""
    number = at + tl.arange(0, CHUNK)[None, :]
    there = number < count[:, None]
    entry = arena + 2 * (tl.load(plan + CAPACITY) * j + start[:, None] + number)
    return tl.load(entry + 1, mask=there, other=NO_KEY), tl.load(entry, mask=there, other=0)


@triton.jit
def count_kernel(plan, state, arena, segments, ties, batches, RANKS: tl.constexpr):
    """Ties of each tile, int64 [ranks, tiles], and of each batch of tiles, int64 [ranks, ⌈tiles/BATCH⌉]."""
    tiles = tl.load(plan + TILES)
    tile = tl.program_id(0).to(tl.int64) * BATCH + tl.arange(0, BATCH)
    is_tile = tile < tiles
    for j in tl.static_range(RANKS):
        own = state + RANK * (j + 1)
        key = tl.load(own + KEY).to(tl.int32)
        start = tl.load(segments + 2 * tiles * j + tile, mask=is_tile, other=0)
        count = tl.load(segments + 2 * tiles * j + tiles + tile, mask=is_tile, other=0)
        tied = count
        if tl.load(own + VERDICT) == LIST:
            tied = count * 0
            for at in range(0, tl.max(count), CHUNK):
                keys, _ = entries(plan, arena, j, start, count, at)
                tied += tl.sum((keys == key).to(tl.int32), axis=1)
        tl.store(ties + tiles * j + tile, tied, mask=is_tile)
        tl.store(batches + tl.num_programs(0).to(tl.int64) * j + tl.program_id(0), tl.sum(tied))


@triton.jit
def words_at(address, half):
    """Pointers to half-words. Addresses are numbers until here: Triton 3.7 fails to broadcast vectors of pointers."""
    return (address + 4 * half).to(tl.pointer_type(tl.int32))


@triton.jit
def set_bits(words, pool, half, bits, mask, FIRST: tl.constexpr, POOL: tl.constexpr):
    """Add bits to words that nobody else writes: to the mask, and then they leave the pool; or to the pool."""
    kept = tl.load(words_at(words, half), mask=mask, other=0)
    if FIRST:
        tl.store(words_at(words, half), kept | bits, mask=mask)
        if POOL:
            pooled = tl.load(words_at(pool, half), mask=mask, other=0)
            tl.store(words_at(pool, half), pooled & ~bits, mask=mask)
    else:
        pooled = tl.load(words_at(pool, half), mask=mask, other=0)
        tl.store(words_at(pool, half), pooled | (bits & ~kept), mask=mask)


@triton.jit
def patch_from_list(plan, arena, words, pool, key, start, count, room, FIRST: tl.constexpr, POOL: tl.constexpr):
    """Each tile's entries stand in the order of their places, so ties are ranked by counting."""
    seen = count * 0
    for at in range(0, tl.max(count), CHUNK):
        keys, place = entries(plan, arena, 0 if FIRST else 1, start, count, at)
        tied = (keys == key).to(tl.int32)
        rank = seen[:, None] + tl.cumsum(tied, axis=1) - tied
        kept = (keys > key) | ((keys == key) & (rank < room[:, None]))
        seen += tl.sum(tied, axis=1)
        half = place // HALF
        bit = 1 << (place % HALF)
        if FIRST:
            tl.atomic_or(words_at(words[:, None], half), bit, mask=kept, sem="relaxed")
            if POOL:
                tl.atomic_and(words_at(pool[:, None], half), ~bit, mask=kept, sem="relaxed")
        else:
            taken = tl.load(words_at(words[:, None], half), mask=kept, other=0) & bit
            tl.atomic_or(words_at(pool[:, None], half), bit, mask=kept & (taken == 0), sem="relaxed")


@triton.jit
def patch_from_bitmap(bitmap, words, pool, halves, tied, room, FIRST: tl.constexpr, POOL: tl.constexpr):
    """All ties of the tiles whose room takes them all; of at most one tile in the whole launch, a part."""
    whole = (room == tied) & (tied > 0)
    for at in range(0, HALVES, CHUNK):
        half = at + tl.arange(0, CHUNK)[None, :]
        mask = whole[:, None] & (half < halves[:, None])
        bits = tl.load(words_at(bitmap[:, None], half), mask=mask, other=0)
        set_bits(words[:, None], pool[:, None], half, bits, mask, FIRST, POOL)
    part = (room > 0) & (room < tied)
    if tl.max(part.to(tl.int32), axis=0) > 0:
        left = tl.sum(tl.where(part, room, 0), axis=0)
        half_word = tl.arange(0, HALVES)
        there = half_word < tl.sum(tl.where(part, halves, 0), axis=0)
        own = tl.load(words_at(tl.sum(tl.where(part, bitmap, 0), axis=0), half_word), mask=there, other=0)
        ones = (own[:, None] >> tl.arange(0, HALF)[None, :]) & 1
        in_half = tl.sum(ones, axis=1)
        rank = (tl.cumsum(in_half, axis=0) - in_half)[:, None] + tl.cumsum(ones, axis=1) - ones
        kept = pack((ones != 0) & (rank < left))
        own_words, own_pool = tl.sum(tl.where(part, words, 0), axis=0), tl.sum(tl.where(part, pool, 0), axis=0)
        set_bits(own_words, own_pool, half_word, kept, there, FIRST, POOL)


@triton.jit
def patch_kernel(plan, state, owners, arena, segments, ties, batches, FIRST: tl.constexpr, POOL: tl.constexpr):
    """Finish the mask (FIRST) or, once that is done, the pool. A program takes a batch of tiles."""
    j = 0 if FIRST else 1
    tiles, tensors = tl.load(plan + TILES), tl.load(plan + TENSORS)
    batch = tl.program_id(0)
    tile = batch.to(tl.int64) * BATCH + tl.arange(0, BATCH)
    is_tile = tile < tiles
    own = state + RANK * (j + 1)
    tied = tl.load(ties + tiles * j + tile, mask=is_tile, other=0)
    before = tl.cumsum(tied, axis=0) - tied
    for at in range(0, batch, BATCHES):
        other = at + tl.arange(0, BATCHES)
        before += tl.sum(tl.load(batches + tl.num_programs(0).to(tl.int64) * j + other, mask=other < batch, other=0))
    #   ties of earlier tiles │ of this tile         the first `quota` of all are kept
    room = tl.minimum(tl.maximum(tl.load(own + QUOTA) - before, 0), tied)
    fields = plan + HEADER + tl.load(owners + tile, mask=is_tile, other=0)
    local = (tile - tl.load(fields + FIRST_TILE * tensors)) * TILE_WORDS
    words = tl.load(fields + WORDS_ADDRESS * tensors) + 8 * local
    pool = tl.load(fields + POOL_ADDRESS * tensors) + 8 * local
    if tl.load(own + VERDICT) == LIST:
        start = tl.load(segments + 2 * tiles * j + tile, mask=is_tile, other=0)
        count = tl.load(segments + 2 * tiles * j + tiles + tile, mask=is_tile, other=0)
        patch_from_list(plan, arena, words, pool, tl.load(own + KEY).to(tl.int32), start, count, room, FIRST, POOL)
    elif tl.max(room, axis=0) > 0:
        halves = 2 * (tl.load(fields + TENSOR_WORDS * tensors) - local)
        word = tl.load(plan + CAPACITY) * j + tl.load(fields + FIRST_WORD * tensors) + local
        patch_from_bitmap(arena.to(tl.int64) + 8 * word, words, pool, halves, tied, room, FIRST, POOL)
