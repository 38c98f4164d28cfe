"""The Triton kernels of moved_linear. Importing this file imports Triton, so `triton_impl` does it on first need.

Lists are those of the operation (`units`, `unit_starts`, …), contiguous. Tiles are outputs × samples. A program takes a
group of moves one after the other, and the parent's sums are read once for them.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

from optprune_fast.ops.triton_tiles import TILE_I, activated, finished, kept_weights, loss_of

_PLAIN = ["moves", "group", "samples", "low", "high"]


@triton.jit(do_not_specialize=_PLAIN)
def moved_linear_kernel(
        sums, columns, units, unit_starts, changes, rows, row_starts, factors, inputs, out, moves, group, samples,
        outputs, low, high, TILE_B: tl.constexpr, TILE_O: tl.constexpr, WIDE: tl.constexpr, ACTIVATION: tl.constexpr):
    """out[m] = activation(the parent's sums and what move m adds), one tile of samples and outputs per program.

    out:   [moves, samples, outputs], contiguous
    WIDE:  count elements in 64 bits; needed where one move's outputs reach 2^31 of them
    """
    tiles_o, tiles_b = tl.cdiv(outputs, TILE_O), tl.cdiv(samples, TILE_B)
    program = tl.program_id(0)
    o = program % tiles_o * TILE_O + tl.arange(0, TILE_O)
    b = program // tiles_o % tiles_b * TILE_B + tl.arange(0, TILE_B)
    if WIDE:
        o, b = o.to(tl.int64), b.to(tl.int64)
    is_row, is_sample = o < outputs, b < samples
    place, inside = b[None, :] * outputs + o[:, None], is_row[:, None] & is_sample[None, :]
    parent = tl.load(sums + place, mask=inside, other=0.0)
    size, first = tl.cast(samples, tl.int64) * outputs, program // (tiles_o * tiles_b) * group
    for m in range(first, tl.minimum(first + group, moves)):
        tile = moved(parent, columns, units, unit_starts, changes, rows, row_starts, factors, inputs, m, o, b, is_row,
                     is_sample, samples, outputs)
        tile = activated(tile, low, high, ACTIVATION)
        tl.store(out + m * size + place, tile.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=_PLAIN)
def moved_loss_kernel(
        sums, columns, units, unit_starts, changes, rows, row_starts, factors, inputs, targets, out, moves, group,
        samples, outputs, TILE_B: tl.constexpr, TILE_O: tl.constexpr, WIDE: tl.constexpr, LOSS: tl.constexpr):
    """out[m, b] = the loss of sample b after move m, of a last layer whose outputs fit one tile.

    targets:  int64 [samples], classes     out: float32 [moves, samples], contiguous
    LOSS:     as `loss_of` has it
    """
    tiles_b = tl.cdiv(samples, TILE_B)
    o = tl.arange(0, TILE_O)
    b = tl.program_id(0) % tiles_b * TILE_B + tl.arange(0, TILE_B)
    if WIDE:
        b = b.to(tl.int64)
    is_row, is_sample = o < outputs, b < samples
    parent = tl.load(sums + b[None, :] * outputs + o[:, None], mask=is_row[:, None] & is_sample[None, :], other=0.0)
    wanted = tl.load(targets + b, mask=is_sample, other=0)
    size, first = tl.cast(samples, tl.int64), tl.program_id(0) // tiles_b * group
    for m in range(first, tl.minimum(first + group, moves)):
        logits = moved(parent, columns, units, unit_starts, changes, rows, row_starts, factors, inputs, m, o, b, is_row,
                       is_sample, samples, outputs)
        tl.store(out + m * size + b, loss_of(logits, o, is_row, wanted, LOSS), mask=is_sample)


@triton.jit(do_not_specialize=[*_PLAIN, "words_m", "words_o"])
def next_loss_kernel(
        sums, columns, units, unit_starts, changes, rows, row_starts, factors, inputs, weight, words, bias, targets,
        out, moves, group, samples, width, classes, weight_o, words_m, words_o, low, high, TILE_B: tl.constexpr,
        TILE_O: tl.constexpr, WIDE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr, BIAS: tl.constexpr,
        ACTIVATION: tl.constexpr, LOSS: tl.constexpr):
    """The same where the last layer follows the moved one: what that one gives is made tile by tile and not stored.

    sums:    [samples, width], of the moved layer      weight: [classes, width], steps weight_o, 1
    words:   int64 [moves, classes, ⌈width/64⌉], steps words_m, words_o, 1: the last layer's, after each move
    """
    tiles_b = tl.cdiv(samples, TILE_B)
    o, i = tl.arange(0, TILE_O), tl.arange(0, TILE_I)
    b = tl.program_id(0) % tiles_b * TILE_B + tl.arange(0, TILE_B)
    end, class_rows = width, o
    if WIDE:
        b, class_rows, end = b.to(tl.int64), o.to(tl.int64), tl.cast(width, tl.int64)
    is_class, is_sample = o < classes, b < samples
    wanted = tl.load(targets + b, mask=is_sample, other=0)
    size, first = tl.cast(samples, tl.int64), tl.program_id(0) // tiles_b * group
    words_step = tl.cast(words_m, tl.int64)
    for m in range(first, tl.minimum(first + group, moves)):
        logits = tl.zeros((TILE_O, TILE_B), tl.float32)
        for column in range(0, end, TILE_I):
            is_unit = column + i < width
            parent = tl.load(sums + b[None, :] * width + (column + i)[:, None],
                             mask=is_unit[:, None] & is_sample[None, :], other=0.0)
            tile = moved(parent, columns, units, unit_starts, changes, rows, row_starts, factors, inputs, m, column + i,
                         b, is_unit, is_sample, samples, width)
            tile = activated(tile, low, high, ACTIVATION)
            weights = kept_weights(weight + class_rows * weight_o, words + m * words_step + class_rows * words_o,
                                   column, is_class, width, DOT)
            logits = tl.dot(weights, tile.to(DOT), logits, input_precision=PRECISION)
        logits = finished(logits, bias, o, is_class, 0.0, 0.0, BIAS, "none")
        tl.store(out + m * size + b, loss_of(logits, o, is_class, wanted, LOSS), mask=is_sample)


@triton.jit
def moved(tile, columns, units, unit_starts, changes, rows, row_starts, factors, inputs, m, o, b, is_row, is_sample,
          samples, outputs):
    """The tile of the parent's sums with what move m adds."""
    for u in range(tl.load(unit_starts + m), tl.load(unit_starts + m + 1)):
        weight = tl.load(columns + tl.load(units + u) * outputs + o, mask=is_row, other=0.0).to(tl.float32)
        change = tl.load(changes + u * samples + b, mask=is_sample, other=0.0)
        tile += weight[:, None] * change[None, :]
    for t in range(tl.load(row_starts + m), tl.load(row_starts + m + 1)):
        term = tl.load(factors + t) * tl.load(inputs + t * samples + b, mask=is_sample, other=0.0)
        # A choice, not a product with zero: an infinite input reaches its own row alone.
        tile += tl.where((o == tl.load(rows + t))[:, None], term[None, :], 0.0)
    return tile


@triton.jit(do_not_specialize=["differences", "samples", "low", "high"])
def moved_inputs_kernel(
        source, rows, firsts, ends, places, factors, x, out, differences, samples, low, high, TILE_B: tl.constexpr,
        DOT: tl.constexpr, ACTIVATION: tl.constexpr):
    """out[t] = what becomes of row rows[t] of a layer under the flips [firsts[t], ends[t]): its value, rounded as the
    next layer's factors are; of the first `differences` of them, by how much it changes.

    source:  [rows of the layer, samples], sums of the parent     x: [inputs, samples], what the layer reads
    places:  int64 [flips], columns;   factors: float32 [flips], the weight, negative where it goes
    out:     float32 [entries, samples]
    """
    tiles_b = tl.cdiv(samples, TILE_B)
    t = tl.cast(tl.program_id(0) // tiles_b, tl.int64)
    b = tl.program_id(0) % tiles_b * TILE_B + tl.arange(0, TILE_B)
    is_sample = b < samples
    parent = tl.load(source + tl.load(rows + t) * samples + b, mask=is_sample, other=0.0).to(tl.float32)
    sums = parent
    for k in range(tl.load(firsts + t), tl.load(ends + t)):
        given = tl.load(x + tl.load(places + k) * samples + b, mask=is_sample, other=0.0)
        sums += tl.load(factors + k) * given.to(tl.float32)
    value = activated(sums, low, high, ACTIVATION).to(DOT).to(tl.float32)
    if t < differences:
        value -= activated(parent, low, high, ACTIVATION).to(DOT).to(tl.float32)
    tl.store(out + t * samples + b, value, mask=is_sample)
