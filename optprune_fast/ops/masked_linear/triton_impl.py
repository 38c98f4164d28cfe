"""masked_linear in Triton: masks applied in registers, precisions by name; bias, activation and loss where the engine
asks for them."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.ops import triton_support
from optprune_fast.ops.cuda_support import needs_wide_offsets, with_unit_steps
from optprune_fast.ops.precision import DEFAULT
from optprune_fast.ops.triton_support import (
    MOST_PROGRAMS,
    PLAIN,
    Epilogue,
    Product,
    device_of,
    loss_product,
    products,
    slices,
)
from optprune_fast.ops.triton_tune import fastest
from optprune_fast.runtime import autotune

OPTIONS = ("precision",)


def missing() -> str | None:
    return triton_support.missing()


def declines(x: Tensor, weight: Tensor, words: Tensor, *, precision: str = DEFAULT) -> str | None:
    return triton_support.declines(x, precision)


def run(x: Tensor, weight: Tensor, words: Tensor, *, precision: str = DEFAULT) -> Tensor:
    return fused(x, weight, words, precision=precision)


def fused(x: Tensor, weight: Tensor, words: Tensor, *, precision: str = DEFAULT, epilogue: Epilogue = PLAIN,
          dtype: torch.dtype | None = None) -> Tensor:
    """[P, B, O]: the product, with what follows it; stored in `dtype`, else in that of x.

    The type of x and weight may differ, if the precision rounds both to one.
    """
    out = x.new_empty(words.shape[0], x.shape[-2], weight.shape[0], dtype=dtype)
    if out.numel():
        x, weight, words = with_unit_steps(x), with_unit_steps(weight), with_unit_steps(words)
        ways = products(x, weight.shape[0], words.shape[0], precision, shared=x.dim() == 2,
                        wide=needs_wide_offsets(x, weight, words, out), large=True, every=autotune.on())

        def go(how: Product) -> None:
            launch(x, weight, words, out, how, epilogue)
        go(fastest("masked_linear", ways, go, x, precision, candidates=out.shape[0], samples=out.shape[1],
                   outputs=out.shape[2], inputs=weight.shape[1]))
    return out


def launch(x: Tensor, weight: Tensor, words: Tensor, out: Tensor, how: Product, epilogue: Epilogue = PLAIN,
           most_programs: int = MOST_PROGRAMS) -> None:
    """Fill `out`, [P, B, O]."""
    from optprune_fast.ops.masked_linear.triton_kernel import masked_linear_kernel

    candidates, samples, outputs = out.shape
    tiles_b = -(-samples // how.launch.tile_b)
    for part in slices(candidates, tiles_b * -(-outputs // how.launch.tile_o), most_programs):
        count = part.stop - part.start
        with device_of(x):
            masked_linear_kernel[(tiles_b * how.tiles(outputs, count),)](
                x if x.dim() == 2 else x[part], weight, words[part], weight if epilogue.bias is None else epilogue.bias,
                out[part], count, samples, outputs, weight.shape[1], x.stride(0) if x.dim() == 3 else 0, x.stride(-2),
                weight.stride(0), words.stride(0), words.stride(1), *epilogue.numbers, STACKED=how.stacked,
                BIAS=epilogue.bias is not None, ACTIVATION=epilogue.activation, **how.constants)


def losses(x: Tensor, weight: Tensor, words: Tensor, bias: Tensor | None, targets: Tensor, kind: str,
           precision: str = DEFAULT) -> Tensor:
    """float32 [P, B]: "cross_entropy" or "error" of each sample, of a layer with at most `MOST_CLASSES` outputs.

    targets:  int64 [B], classes
    """
    from optprune_fast.ops.masked_linear.triton_kernel import masked_loss_kernel

    (outputs, inputs), candidates, samples = weight.shape, words.shape[0], x.shape[-2]
    out = x.new_empty(candidates, samples, dtype=torch.float32)
    if not out.numel():
        return out
    x, weight, words = with_unit_steps(x), with_unit_steps(weight), with_unit_steps(words)
    how = loss_product(x, outputs, precision, wide=needs_wide_offsets(x, weight, words, out))
    tiles_b = -(-samples // how.launch.tile_b)
    for part in slices(candidates, tiles_b):
        with device_of(x):
            masked_loss_kernel[(tiles_b * (part.stop - part.start),)](
                x if x.dim() == 2 else x[part], weight, words[part], weight if bias is None else bias, targets,
                out[part], samples, outputs, inputs, x.stride(0) if x.dim() == 3 else 0, x.stride(-2),
                weight.stride(0), words.stride(0), words.stride(1), BIAS=bias is not None, LOSS=kind, **how.constants)
    return out
