"""Which tensor each tile belongs to, and a sample of the keys: one weight of each of equal stretches."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

from optprune_fast.ops.topk_threshold import device_plan
from optprune_fast.ops.topk_threshold.triton_keys import (
    ADDRESS,
    COLUMNS,
    FIRST_TILE,
    HEADER,
    KIND,
    STEP,
    TENSORS,
    TILES,
    keys_at,
)

FIRST_WEIGHT = tl.constexpr(device_plan.FIRST_WEIGHT)
WEIGHTS = tl.constexpr(device_plan.WEIGHTS)
SAMPLES = tl.constexpr(device_plan.SAMPLES)
SEARCH_STEPS = tl.constexpr(device_plan.SEARCH_STEPS)


@triton.jit
def owner_of(plan, which: tl.constexpr, number):
    """The last tensor whose first tile, or weight, is at most `number`."""
    tensors = tl.load(plan + TENSORS)
    steps = tl.load(plan + SEARCH_STEPS)
    found = number * 0
    for step in range(steps):
        further = found + (1 << (steps - 1 - step))
        first = tl.load(plan + HEADER + which * tensors + further, mask=further < tensors, other=0)
        found = tl.where((further < tensors) & (first <= number), further, found)
    return found


@triton.jit
def scattered(number):
    """20 bits that look random, from a number below 2^32; the multipliers are odd, any would do."""
    mixed = (number * 0x9E3779B1) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    return (mixed ^ (mixed >> 12)) & 0xFFFFF


@triton.jit
def sample_kernel(plan, owners, sample, DROP: tl.constexpr, BLOCK: tl.constexpr):
    """owners: int32 [tiles]; sample: int32 [samples]."""
    number = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    is_tile = number < tl.load(plan + TILES)
    tl.store(owners + number, owner_of(plan, FIRST_TILE, number).to(tl.int32), mask=is_tile)
    samples = tl.load(plan + SAMPLES)
    is_sample = number < samples
    n = tl.load(plan + WEIGHTS)
    #   stretch i of n / samples weights     i n / samples  ≤  (i + u) n / samples  <  (i + 1) n / samples
    weight = (number * n + (scattered(number) * n >> 20)) // tl.maximum(samples, 1)
    weight = tl.where(is_sample, weight, 0)
    tensors = tl.load(plan + TENSORS)
    fields = plan + HEADER + owner_of(plan, FIRST_WEIGHT, weight)
    inside = weight - tl.load(fields + FIRST_WEIGHT * tensors)
    columns = tl.load(fields + COLUMNS * tensors)
    row = inside // columns
    place = row * tl.load(fields + STEP * tensors) + (inside - row * columns)
    kind = tl.load(fields + KIND * tensors)
    address = tl.load(fields + ADDRESS * tensors)
    tl.store(sample + number, keys_at(address, kind, place, is_sample, DROP), mask=is_sample)
