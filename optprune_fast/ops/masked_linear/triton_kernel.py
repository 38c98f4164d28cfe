"""The Triton kernel of masked_linear. Importing this file imports Triton, so `triton_impl` does it on first need."""

import triton
import triton.language as tl

# Columns of one step: a half-word, so that a row's bits of a step fit one 32-bit register. Two of them, a whole word,
# double the live addresses of ragged rows: those spill then (tests/gpu/test_triton_aot.py shows by how much).
TILE_I = tl.constexpr(32)


# Arguments whose alignment buys no wider load or store are not specialised on: fewer variants to compile at run time.
@triton.jit(do_not_specialize=["samples", "words_p", "words_o"])  # type: ignore[untyped-decorator]
def masked_linear_kernel(  # type: ignore[no-untyped-def]
        x, weight, words, out, samples, outputs, inputs, x_p, x_b, weight_o, words_p, words_o,
        TILE_B: tl.constexpr, TILE_O: tl.constexpr, WIDE: tl.constexpr):
    """out[p] = x[p] @ (weight * mask[p]).T, one tile of samples and outputs of one candidate per program.

    x:      [P, samples, inputs], steps x_p, x_b, 1     weight: [outputs, inputs], steps weight_o, 1
    words:  int64 [P, outputs, ⌈inputs/64⌉], steps words_p, words_o, 1
    out:    [P, samples, outputs], contiguous
    WIDE:   count elements in 64 bits; needed where a tensor reaches 2^31 of them
    """
    tiles_o = tl.cdiv(outputs, TILE_O)
    tiles_b = tl.cdiv(samples, TILE_B)
    program = tl.program_id(0)
    # Outputs fastest: neighbours share the samples, and then the words, in the second-level cache.
    o = program % tiles_o * TILE_O + tl.arange(0, TILE_O)
    b = program // tiles_o % tiles_b * TILE_B + tl.arange(0, TILE_B)
    p = program // (tiles_o * tiles_b)
    i = tl.arange(0, TILE_I)
    end = inputs
    if WIDE:
        o, b, p, end = o.to(tl.int64), b.to(tl.int64), p.to(tl.int64), tl.cast(inputs, tl.int64)
    is_output = o < outputs
    is_sample = b < samples
    x_rows = x + p * x_p + b * x_b
    weight_rows = weight + o * weight_o
    words_rows = words + p * words_p + o * words_o

    # The masked weights are the first factor: that one may stay in registers, where the mask was applied.
    sums = tl.zeros((TILE_O, TILE_B), tl.float32)
    for first in range(0, end, TILE_I):
        is_input = first + i < inputs
        x_tile = tl.load(x_rows[None, :] + (first + i)[:, None], mask=is_input[:, None] & is_sample[None, :], other=0.0)
        w_tile = tl.load(weight_rows[:, None] + (first + i)[None, :], mask=is_output[:, None] & is_input[None, :],
                         other=0.0)
        # word   63 … 32 | 31 … 0     the half that holds columns first … first + 31
        half = (tl.load(words_rows + first // 64, mask=is_output, other=0) >> first % 64).to(tl.int32)
        kept = (half[:, None] >> i[None, :]) & 1
        w_tile = tl.where(kept != 0, w_tile, 0.0)
        # "ieee": the default for float32 is tf32, which keeps 10 bits of each factor.
        sums = tl.dot(w_tile, x_tile, sums, input_precision="ieee")
    out_tile = out + (p * samples + b)[:, None] * outputs + o[None, :]
    tl.store(out_tile, tl.trans(sums).to(out.dtype.element_ty), mask=is_sample[:, None] & is_output[None, :])
