"""The Triton kernel of masked_conv2d. Importing this file imports Triton, so `triton_impl` does it on first need."""

import triton
import triton.language as tl

from optprune_fast.ops.triton_tiles import TILE_I, finished, kept_weights, place


@triton.jit(do_not_specialize=["words_p", "words_o", "candidates", "samples", "low", "high"])  # type: ignore[untyped-decorator]
def masked_conv2d_kernel(  # type: ignore[no-untyped-def]
        x, weight, words, bias, out, candidates, samples, groups, outputs, inputs, height, width, out_height, out_width,
        x_p, x_b, x_c, x_h, x_w, weight_o, words_p, words_o, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w,
        low, high, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr, TILE_B: tl.constexpr, TILE_O: tl.constexpr,
        STACKED: tl.constexpr, WIDE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr, BIAS: tl.constexpr,
        ACTIVATION: tl.constexpr):
    """out[p] = activation(conv2d(x[p], weight * mask[p]) + bias) as a product that is never unfolded in memory.

    A row of the product is an output channel, a column of its second factor a pixel of the output, and what they sum
    over is the columns of the weight, (channel, row, column of the kernel): each pixel loads what lies under it.

    x:        [P, samples, channels, height, width], steps x_p, x_b, x_c, x_h, x_w
    weight:   [groups · outputs, inputs], steps weight_o, 1; inputs = channels / groups · KERNEL_H · KERNEL_W
    words:    int64 [P, groups · outputs, ⌈inputs/64⌉], steps words_p, words_o, 1
    bias:     [groups · outputs], read where BIAS
    out:      [P, samples, groups · outputs, out_height, out_width], contiguous
    STACKED, WIDE, DOT, PRECISION: as in masked_linear
    """
    plane = out_height * out_width
    pixels, program = samples * plane, tl.program_id(0)
    if WIDE:
        pixels, program = samples.to(tl.int64) * plane, program.to(tl.int64)
    tiles_o = tl.cdiv(candidates * outputs if STACKED else outputs, TILE_O)
    tiles_b = tl.cdiv(pixels, TILE_B)
    row = program % tiles_o * TILE_O + tl.arange(0, TILE_O)
    pixel = program // tiles_o % tiles_b * TILE_B + tl.arange(0, TILE_B)
    group = program // (tiles_o * tiles_b) % groups
    p, o, is_row = place(row, program, tiles_o * tiles_b * groups, outputs, candidates, STACKED)
    is_pixel = pixel < pixels
    b, o, spot = pixel // plane, group * outputs + o, (pixel % plane).to(tl.int32)
    top, left = spot // out_width * stride_h - pad_h, spot % out_width * stride_w - pad_w

    start = offset(top, x_h, WIDE) + offset(left, x_w, WIDE)
    x_pixel = x + b * x_b + group * (inputs // (KERNEL_H * KERNEL_W)) * x_c + start
    if not STACKED:
        x_pixel += p * x_p
    weight_rows, words_rows = weight + o * weight_o, words + p * words_p + o * words_o
    i = tl.arange(0, TILE_I)
    sums = tl.zeros((TILE_O, TILE_B), tl.float32)
    for column in range(0, inputs, TILE_I):
        channel, tap = (column + i) // (KERNEL_H * KERNEL_W), (column + i) % (KERNEL_H * KERNEL_W)
        down, right = tap // KERNEL_W * dilation_h, tap % KERNEL_W * dilation_w
        y, across = top[None, :] + down[:, None], left[None, :] + right[:, None]
        inside = (y >= 0) & (y < height) & (across >= 0) & (across < width)
        under = offset(channel, x_c, WIDE) + offset(down, x_h, WIDE) + offset(right, x_w, WIDE)
        x_tile = tl.load(x_pixel[None, :] + under[:, None],
                         mask=inside & (column + i < inputs)[:, None] & is_pixel[None, :], other=0.0)
        weights = kept_weights(weight_rows, words_rows, column, is_row, inputs, DOT)
        sums = tl.dot(weights, x_tile.to(DOT), sums, input_precision=PRECISION)
    sums = finished(sums, bias, o, is_row, low, high, BIAS, ACTIVATION)
    out_tile = out + (p * samples * groups * outputs * plane + o * plane)[:, None] + (
        b * groups * outputs * plane + spot)[None, :]
    tl.store(out_tile, sums.to(out.dtype.element_ty), mask=is_row[:, None] & is_pixel[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def offset(number, step, WIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Elements that so many steps take."""
    if WIDE:
        number = number.to(tl.int64)
    return number * step
