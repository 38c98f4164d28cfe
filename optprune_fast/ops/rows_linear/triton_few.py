"""The Triton kernels of rows_linear for few samples: all that they read of a weight, they read once."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

from optprune_fast.ops.rows_linear.triton_bits import places_of

TILE = tl.constexpr(256)  # columns that a byte tells apart (optprune_fast/ops/rows.py)
BYTES = tl.constexpr(32)  # of a row's mask in a step: a byte a thread, so that the sums of a row stay in one warp


@triton.jit(do_not_specialize=["outputs"])
def one_by_words_kernel(x, values, words, starts, bias, out, outputs, inputs, bytes_o,
                        ROWS: tl.constexpr, WIDE: tl.constexpr):
    """out = weight @ x + bias for one sample, `ROWS` rows per program, a bit of the mask at each position.

    x:      [inputs]    words: the bytes of the mask, [outputs, bytes_o]    out: [outputs]
    """
    o = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    byte, bit = tl.arange(0, BYTES), tl.arange(0, 8)
    if WIDE:
        o = o.to(tl.int64)
    is_output = o < outputs
    at = tl.load(starts + o, mask=is_output, other=0)
    sums = tl.zeros((ROWS, BYTES, 8), tl.float32)
    for first in range(0, bytes_o, BYTES):
        is_byte = is_output[:, None] & (first + byte < bytes_o)[None, :]
        eight = tl.load(words + o[:, None] * bytes_o + (first + byte)[None, :], mask=is_byte, other=0).to(tl.int32)
        place, kept, many = places_of(eight, at)
        weight = tl.load(values + place, mask=kept, other=0.0)
        # Asked for in the shape of the weights, it is held as they are: eight columns a thread, one load of them.
        i = (first + byte)[None, :, None] * 8 + bit[None, None, :] + tl.zeros((ROWS, 1, 1), tl.int32)
        given = tl.load(x + i, mask=i < inputs, other=0.0)
        sums += weight.to(tl.float32) * given.to(tl.float32)
        at += many
    total = tl.sum(tl.sum(sums, 2), 1)
    if bias is not None:
        total += tl.load(bias + o, mask=is_output, other=0.0).to(tl.float32)
    tl.store(out + o, total.to(out.dtype.element_ty), mask=is_output)


@triton.jit(do_not_specialize=["outputs", "samples", "tiles"])
def few_by_columns_kernel(x, values, columns, counts, starts, bias, out, outputs, samples, tiles,
                          ROWS: tl.constexpr, TILES: tl.constexpr, ENTRIES: tl.constexpr, SAMPLES: tl.constexpr,
                          WIDE: tl.constexpr):
    """out = x @ weight.T + bias for up to `SAMPLES` samples, `ROWS` rows per program: a step goes by kept weights,
    `ENTRIES` of each of `TILES` tiles.

    x:      [inputs, SAMPLES], so that the samples of a column are read together    out: [samples, outputs]
    """
    o = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    t, k, b = tl.arange(0, TILES), tl.arange(0, ENTRIES), tl.arange(0, SAMPLES)
    if WIDE:
        o = o.to(tl.int64)
    is_output = o < outputs
    at = tl.load(starts + o, mask=is_output, other=0)
    sums = tl.zeros((ROWS, TILES, ENTRIES, SAMPLES), tl.float32)
    for first in range(0, tiles, TILES):
        is_tile = is_output[:, None] & (first + t < tiles)[None, :]
        count = tl.load(counts + o[:, None] * tiles + (first + t)[None, :], mask=is_tile, other=0).to(tl.int32)
        start = at[:, None] + tl.cumsum(count, 1) - count
        for done in range(0, tl.max(count), ENTRIES):
            is_entry = (done + k)[None, None, :] < count[:, :, None]
            entry = start[:, :, None] + (done + k)[None, None, :]
            column = tl.load(columns + entry, mask=is_entry, other=0).to(tl.int32)
            weight = tl.load(values + entry, mask=is_entry, other=0.0)
            i = (first + t)[None, :, None] * TILE + column
            given = tl.load(x + i[:, :, :, None] * SAMPLES + b[None, None, None, :], mask=is_entry[:, :, :, None],
                            other=0.0)
            sums += weight[:, :, :, None].to(tl.float32) * given.to(tl.float32)
        at += tl.sum(count, 1)
    total = tl.sum(tl.sum(sums, 2), 1)
    if bias is not None:
        total += tl.load(bias + o, mask=is_output, other=0.0).to(tl.float32)[:, None]
    tl.store(out + b[None, :] * outputs + o[:, None], total.to(out.dtype.element_ty),
             mask=is_output[:, None] & (b < samples)[None, :])
