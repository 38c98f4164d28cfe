"""The Triton kernel of rows_linear for many samples: a tile of the weight is dense in registers, then multiplied."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

from optprune_fast.ops.rows_linear.triton_bits import places_of

# Columns of a step: half a word of the mask, an eighth of a tile of 256 (optprune_fast/ops/rows.py). Numbers that the
# interpreter divides by cannot have names.
STEP = tl.constexpr(32)


@triton.jit
def half_of(columns, at, end, in_tile):
    """The mask's bits of a step, [rows]: of the columns of its tile, `at` to `end`, those below the next step."""
    k = tl.arange(0, STEP)
    entry = at[:, None] + k[None, :]
    column = tl.load(columns + entry, mask=entry < end[:, None], other=255).to(tl.int32) - in_tile
    is_here = (entry < end[:, None]) & (column < STEP)
    # Distinct powers of two: their sum is their union.
    return tl.sum(tl.where(is_here, 1 << (column & 31), 0), 1)


@triton.jit
def weights_of(values, half, at):
    """(weights [rows, STEP] of a step whose bits are `half`, how many each row keeps): their values begin at `at`."""
    byte = tl.arange(0, STEP // 8)
    place, kept, many = places_of((half[:, None] >> 8 * byte[None, :]) & 255, at)
    return tl.reshape(tl.load(values + place, mask=kept, other=0.0), (half.shape[0], STEP)), many


@triton.jit(do_not_specialize=["samples", "outputs", "per_row"])
def many_kernel(x, values, places, counts, starts, bias, out, samples, outputs, inputs, x_b, per_row,
                TILE_B: tl.constexpr, TILE_O: tl.constexpr, LISTED: tl.constexpr, WIDE: tl.constexpr):
    """out = x @ weight.T + bias, one tile of samples and outputs per program.

    x:        [samples, inputs], steps x_b, 1               out: [samples, outputs], contiguous
    places:   halves of the mask's words, int32 [outputs, per_row]; LISTED: columns, and counts [outputs, per_row]
    WIDE:     count elements in 64 bits; needed where a tensor reaches 2^31 of them
    """
    # Samples fastest: neighbours decode the same rows, which the second-level cache then holds.
    tiles_b = tl.cdiv(samples, TILE_B)
    program = tl.program_id(0)
    b = program % tiles_b * TILE_B + tl.arange(0, TILE_B)
    o = program // tiles_b * TILE_O + tl.arange(0, TILE_O)
    i = tl.arange(0, STEP)
    is_output, is_sample = o < outputs, b < samples
    at = tl.load(starts + o, mask=is_output, other=0)
    if WIDE:
        o, b = o.to(tl.int64), b.to(tl.int64)
    end = at
    sums = tl.zeros((TILE_O, TILE_B), tl.float32)
    for first in range(0, inputs, STEP):
        if LISTED:
            in_tile = first % 256
            count = tl.load(counts + o * per_row + first // 256, mask=is_output & (in_tile == 0), other=0)
            end = tl.where(in_tile == 0, at + count, end)
            half = half_of(places, at, end, in_tile)
        else:
            half = tl.load(places + o * per_row + first // 32, mask=is_output, other=0)
        weight, many = weights_of(values, half, at)
        at += many
        is_given = (first + i < inputs)[:, None] & is_sample[None, :]
        given = tl.load(x + b[None, :] * x_b + (first + i)[:, None], mask=is_given, other=0.0)
        # "ieee": the default for float32 is tf32, which keeps 10 bits of each factor.
        sums = tl.dot(weight, given, sums, input_precision="ieee")
    if bias is not None:
        sums += tl.load(bias + o, mask=is_output, other=0.0).to(tl.float32)[:, None]
    tl.store(out + b[:, None] * outputs + o[None, :], tl.trans(sums).to(out.dtype.element_ty),
             mask=is_sample[:, None] & is_output[None, :])
