"""The Triton kernel of choose_bits. Importing this file imports Triton, so `triton_impl` does it on first need."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

BINS = tl.constexpr(256)  # a digit of a key is 8 bits
_GOLDEN = tl.constexpr(0x9E3779B97F4A7C15)
_FIRST = tl.constexpr(0xBF58476D1CE4E5B9)
_SECOND = tl.constexpr(0x94D049BB133111EB)


@triton.jit
def bits_and_keys(row, seed, first, width, BLOCK: tl.constexpr):
    """bool and uint64 [BLOCK, 64]: which bits are set in words first … of a row, and the key of each."""
    w = first + tl.arange(0, BLOCK)
    j = tl.arange(0, 64)
    words = tl.load(row + w, mask=w < width, other=0)
    held = ((words[:, None] >> j[None, :].to(tl.int64)) & 1) != 0
    position = w.to(tl.uint64)[:, None] * 64 + j.to(tl.uint64)[None, :]
    z = seed + (position + 1) * _GOLDEN  # splitmix64 (S. Vigna, public domain)
    z = (z ^ (z >> 30)) * _FIRST
    z = (z ^ (z >> 27)) * _SECOND
    return held, z ^ (z >> 31)


@triton.jit
def choose_bits_kernel(words, counts, seeds, out, width, words_step, BLOCK: tl.constexpr):
    """The bits with the smallest keys, a row a program.

    words: int64 [programs, width], steps words_step, 1   counts, seeds: int64 [programs]   out: as words, contiguous

    From the top, a digit after the other: which bin holds the key of rank `rank`, until all of a bin stays.
    """
    p = tl.program_id(0).to(tl.int64)
    row = words + p * words_step
    seed = tl.load(seeds + p).to(tl.uint64)
    count = tl.maximum(tl.load(counts + p), 0)
    bins = tl.arange(0, BINS)
    rank, members = count, count * 0
    prefix, shift = seed * 0, 64
    while rank != members:
        shift -= 8
        found = tl.zeros((BINS,), tl.int32)
        for first in range(0, width, BLOCK):
            held, key = bits_and_keys(row, seed, first, width, BLOCK)
            bin_ = (key >> shift) - prefix * BINS  # huge for a key of another prefix
            counts_here = held & (bin_ < BINS)
            found += tl.histogram(tl.ravel(bin_).to(tl.int32), BINS, mask=tl.ravel(counts_here))
        below = tl.cumsum(found) < rank
        last = tl.minimum(tl.sum(below.to(tl.int32)), BINS - 1)  # of all bins where fewer bits are set
        members = tl.sum(tl.where(bins == last, found, 0)).to(tl.int64)
        rank = tl.minimum(rank - tl.sum(tl.where(bins < last, found, 0)).to(tl.int64), members)
        prefix = prefix * BINS + last.to(tl.uint64)
    shift = tl.minimum(shift, 63)  # a shift by all bits has no meaning; nothing stays then
    for first in range(0, width, BLOCK):
        held, key = bits_and_keys(row, seed, first, width, BLOCK)
        stays = held & ((key >> shift) <= prefix) & (count > 0)
        bits = tl.full((1, 64), 1, tl.int64) << tl.arange(0, 64)[None, :].to(tl.int64)
        w = first + tl.arange(0, BLOCK)
        tl.store(out + p * width + w, tl.sum(tl.where(stays, bits, 0), axis=1), mask=w < width)
