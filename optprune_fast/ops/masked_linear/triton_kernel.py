"""The Triton kernels of masked_linear. Importing this file imports Triton, so `triton_impl` does it on first need."""

import triton
import triton.language as tl

from optprune_fast.ops.triton_tiles import TILE_I, finished, kept_weights, loss_of, place

_PLAIN = ["samples", "words_p", "words_o", "candidates", "low", "high"]


# Arguments whose alignment buys no wider load or store are not specialised on: fewer variants to compile at run time.
@triton.jit(do_not_specialize=_PLAIN)  # type: ignore[untyped-decorator]
def masked_linear_kernel(  # type: ignore[no-untyped-def]
        x, weight, words, bias, out, candidates, samples, outputs, inputs, x_p, x_b, weight_o, words_p, words_o, low,
        high, TILE_B: tl.constexpr, TILE_O: tl.constexpr, STACKED: tl.constexpr, WIDE: tl.constexpr, DOT: tl.constexpr,
        PRECISION: tl.constexpr, BIAS: tl.constexpr, ACTIVATION: tl.constexpr):
    """out[p] = activation(x[p] @ (weight * mask[p]).T + bias), one tile of samples and outputs per program.

    x:        [P, samples, inputs], steps x_p, x_b, 1     weight: [outputs, inputs], steps weight_o, 1
    words:    int64 [P, outputs, ⌈inputs/64⌉], steps words_p, words_o, 1     bias: [outputs], read where BIAS
    out:      [P, samples, outputs], contiguous
    STACKED:  x is shared, and a tile may hold outputs of several candidates: x is read once for them
    WIDE:     count elements in 64 bits; needed where a tensor reaches 2^31 of them
    DOT, PRECISION: the type of factors, and how the product takes float32 ones
    """
    tiles_o = tl.cdiv(candidates * outputs if STACKED else outputs, TILE_O)
    tiles_b = tl.cdiv(samples, TILE_B)
    program = tl.program_id(0)
    # Outputs fastest: neighbours share the samples, and then the words, in the second-level cache.
    row = program % tiles_o * TILE_O + tl.arange(0, TILE_O)
    b = program // tiles_o % tiles_b * TILE_B + tl.arange(0, TILE_B)
    p, o, is_row = place(row, program, tiles_o * tiles_b, outputs, candidates, STACKED)
    end = inputs
    if WIDE:
        o, b, p, end = o.to(tl.int64), b.to(tl.int64), p.to(tl.int64), tl.cast(inputs, tl.int64)
    is_sample = b < samples
    x_rows = x + b * x_b
    if not STACKED:
        x_rows += p * x_p
    sums = masked_sums(x_rows, weight + o * weight_o, words + p * words_p + o * words_o, is_sample, is_row, inputs, end,
                       TILE_B, TILE_O, DOT, PRECISION)
    sums = finished(sums, bias, o, is_row, low, high, BIAS, ACTIVATION)
    out_tile = out + (p * samples * outputs + o)[None, :] + (b * outputs)[:, None]
    tl.store(out_tile, tl.trans(sums).to(out.dtype.element_ty), mask=is_sample[:, None] & is_row[None, :])


@triton.jit(do_not_specialize=_PLAIN)  # type: ignore[untyped-decorator]
def masked_loss_kernel(  # type: ignore[no-untyped-def]
        x, weight, words, bias, targets, out, samples, outputs, inputs, x_p, x_b, weight_o, words_p, words_o,
        TILE_B: tl.constexpr, TILE_O: tl.constexpr, WIDE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
        BIAS: tl.constexpr, LOSS: tl.constexpr):
    """out[p, b] = the loss of sample b under mask p, of a last layer whose outputs fit one tile. Logits are not stored.

    targets:  int64 [samples], classes     out: float32 [P, samples], contiguous; the rest as above
    LOSS:     as `loss_of` has it
    """
    tiles_b = tl.cdiv(samples, TILE_B)
    program = tl.program_id(0)
    o = tl.arange(0, TILE_O)
    b = program % tiles_b * TILE_B + tl.arange(0, TILE_B)
    p = program // tiles_b
    end = inputs
    is_row = o < outputs
    rows = o
    if WIDE:
        rows, b, p, end = o.to(tl.int64), b.to(tl.int64), p.to(tl.int64), tl.cast(inputs, tl.int64)
    is_sample = b < samples
    sums = masked_sums(x + p * x_p + b * x_b, weight + rows * weight_o, words + p * words_p + rows * words_o, is_sample,
                       is_row, inputs, end, TILE_B, TILE_O, DOT, PRECISION)
    sums = finished(sums, bias, o, is_row, 0.0, 0.0, BIAS, "none")
    wanted = tl.load(targets + b, mask=is_sample, other=0)
    tl.store(out + p * samples + b, loss_of(sums, o, is_row, wanted, LOSS), mask=is_sample)


@triton.jit  # type: ignore[untyped-decorator]
def masked_sums(x_rows, weight_rows, words_rows, is_sample, is_row, inputs, end,  # type: ignore[no-untyped-def]
                TILE_B: tl.constexpr, TILE_O: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """float32 [TILE_O, TILE_B]: the products of some rows of masked weights with some samples.

    The masked weights are the first factor: that one may stay in registers, where the mask was applied.
    """
    i = tl.arange(0, TILE_I)
    sums = tl.zeros((TILE_O, TILE_B), tl.float32)
    for column in range(0, end, TILE_I):
        x_tile = tl.load(x_rows[None, :] + (column + i)[:, None],
                         mask=(column + i < inputs)[:, None] & is_sample[None, :], other=0.0)
        weights = kept_weights(weight_rows, words_rows, column, is_row, inputs, DOT)
        # Without `input_precision` float32 would be tf32, which keeps 10 bits of each factor.
        sums = tl.dot(weights, x_tile.to(DOT), sums, input_precision=PRECISION)
    return sums
