"""masked_conv2d in Triton: an implicit product, masks applied in registers, precisions by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.ops import triton_support
from optprune_fast.ops.cuda_support import needs_wide_offsets, with_unit_steps
from optprune_fast.ops.masked_conv2d.geometry import output_shape
from optprune_fast.ops.precision import DEFAULT
from optprune_fast.ops.triton_support import (
    MOST_PROGRAMS,
    PLAIN,
    Epilogue,
    Product,
    device_of,
    products,
    slices,
)
from optprune_fast.ops.triton_tune import fastest
from optprune_fast.runtime import autotune

OPTIONS = ("precision",)


def missing() -> str | None:
    return triton_support.missing()


def declines(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
             dilation: Sequence[int], groups: int, *, precision: str = DEFAULT) -> str | None:
    return triton_support.declines(x, precision)


def run(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
        dilation: Sequence[int], groups: int, *, precision: str = DEFAULT) -> Tensor:
    return fused(x, weight, words, stride, padding, dilation, groups, precision=precision)


def fused(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
          dilation: Sequence[int], groups: int, *, precision: str = DEFAULT, epilogue: Epilogue = PLAIN,
          dtype: torch.dtype | None = None) -> Tensor:
    """[P, B, O, H', W']: the convolution, with what follows it; stored in `dtype`, else in that of x.

    The type of x and weight may differ, if the precision rounds both to one.
    """
    out = x.new_empty(output_shape(x, weight, words, stride, padding, dilation), dtype=dtype)
    if out.numel():
        matrix, words = weight.reshape(weight.shape[0], weight.shape[1:].numel()), with_unit_steps(words)
        ways = products(x, weight.shape[0] // groups, words.shape[0], precision, shared=x.dim() == 4,
                        wide=needs_wide_offsets(x, matrix, words, out), every=autotune.on())
        matrix, geometry = with_unit_steps(matrix), (*stride, *padding, *dilation)

        def go(how: Product) -> None:
            launch(x, matrix, words, out, how, geometry, weight.shape[2:], groups, epilogue)
        go(fastest("masked_conv2d", ways, go, x, precision, candidates=out.shape[0],
                   pixels=out.shape[1] * out.shape[3] * out.shape[4], outputs=out.shape[2], groups=groups,
                   inputs=matrix.shape[1]))
    return out


def launch(x: Tensor, matrix: Tensor, words: Tensor, out: Tensor, how: Product, geometry: Sequence[int],
           kernel: Sequence[int], groups: int, epilogue: Epilogue = PLAIN, most_programs: int = MOST_PROGRAMS
           ) -> None:
    """Fill `out`, [P, B, O, H', W'].

    matrix:    [O, C/groups · kh · kw];   geometry: stride, padding and dilation, two numbers each
    """
    from optprune_fast.ops.masked_conv2d.triton_kernel import masked_conv2d_kernel

    candidates, samples, _, *plane = out.shape
    outputs = matrix.shape[0] // groups
    tiles_b = -(-samples * plane[0] * plane[1] // how.launch.tile_b) * groups
    for part in slices(candidates, tiles_b * -(-outputs // how.launch.tile_o), most_programs):
        count = part.stop - part.start
        with device_of(x):
            masked_conv2d_kernel[(tiles_b * how.tiles(outputs, count),)](
                x if x.dim() == 4 else x[part], matrix, words[part], matrix if epilogue.bias is None else epilogue.bias,
                out[part], count, samples, groups, outputs, matrix.shape[1], *x.shape[-2:], *plane,
                x.stride(0) if x.dim() == 5 else 0, *x.stride()[-4:], matrix.stride(0), words.stride(0),
                words.stride(1), *geometry, *epilogue.numbers, KERNEL_H=kernel[0], KERNEL_W=kernel[1],
                STACKED=how.stacked, BIAS=epilogue.bias is not None, ACTIVATION=epilogue.activation, **how.constants)
