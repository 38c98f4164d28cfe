"""masked_conv2d: one convolution under many masks at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from optprune_fast.ops.checks import check_masked, require
from optprune_fast.ops.library import register, register_backward, register_batching
from optprune_fast.ops.masked_conv2d.geometry import output_shape
from optprune_fast.ops.precision import DEFAULT, check_precision, chosen
from optprune_fast.ops.words import unpack
from optprune_fast.runtime.dispatch import Operation

operation = Operation("masked_conv2d", __name__, ("triton", "native", "numba", "torch"))


def masked_conv2d(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int] = (1, 1),
                  padding: Sequence[int] = (0, 0), dilation: Sequence[int] = (1, 1), groups: int = 1, *,
                  backend: str = "auto", straight_through: bool = False, precision: str = DEFAULT) -> Tensor:
    """Apply one convolution under each of `P` masks: `out[p] = conv2d(x, weight * mask[p])`.

    x:        float [B, C, H, W], shared by all candidates, or [P, B, C, H, W], one input each
    weight:   float [O, C/groups, kh, kw], same dtype as x; a row of bits has I = C/groups · kh · kw columns
    words:    int64 [P, O, ⌈I/64⌉], packed rows with a zero tail (docs/FORMATS.md)
    stride, padding, dilation: two whole numbers each, (height, width); zeros are padded
    returns:  float [P, B, O, H', W'], with H', W' as `torch.nn.functional.conv2d` has them

    precision: "fp32", "tf32x3", "tf32", "fp16" or "bf16": how float32 factors are multiplied (`ops/precision.py`). The
              triton backend alone has the choice, and gradients have none

    The gradient of `weight` counts kept weights only; with `straight_through=True` it is the gradient of the
    *effective* weight, so dropped weights get theirs too.

    Raises `TypeError` for wrong dtypes, `ValueError` for wrong shapes or devices, `BackendError` if the backend
    asked for cannot serve the call.

    >>> x, weight = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    >>> masked_conv2d(x, weight, torch.tensor([[[0b0111]]])).flatten()
    tensor([3.])
    """
    out: Tensor = operator(x, weight, words, list(stride), list(padding), list(dilation), groups, backend=backend,
                           straight_through=straight_through, precision=precision)
    return out


def check(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
          dilation: Sequence[int], groups: int) -> None:
    where = "masked_conv2d"
    seen: dict[str, Any] = {"x": x, "weight": weight, "words": words}
    require(weight.dim() == 4, where, "weight must be [O, C/groups, kh, kw]", **seen)
    check_masked(where, x, weight, words)
    require(min(weight.shape[2:]) >= 1, where, "kh and kw must be at least 1", **seen)
    for name, pair, least in (("stride", stride, 1), ("padding", padding, 0), ("dilation", dilation, 1)):
        require(len(pair) == 2 and min(pair) >= least, where, f"{name} must be two whole numbers of at least {least}",
                "", **{name: list(pair)})
    require(groups >= 1 and weight.shape[0] % groups == 0, where, "groups must divide the outputs O of the weight",
            groups=groups, **seen)
    channels = weight.shape[1] * groups
    require(x.dim() in (4, 5) and x.shape[-3] == channels, where,
            f"x must be [B, {channels}, H, W] or [P, B, {channels}, H, W] for this weight", groups=groups, **seen)
    require(x.dim() == 4 or x.shape[0] == words.shape[0], where, "x and words must have the same number of candidates",
            **seen)
    require(min(output_shape(x, weight, words, stride, padding, dilation)[-2:]) >= 1, where,
            "the kernel must fit into the padded input", stride=list(stride), padding=list(padding),
            dilation=list(dilation), **seen)


def _kernel(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
            dilation: Sequence[int], groups: int, *, backend: str = "auto", straight_through: bool = False,
            precision: str = DEFAULT) -> Tensor:
    check(x, weight, words, stride, padding, dilation, groups)
    out: Tensor = operation(x, weight, words, stride, padding, dilation, groups, backend=backend,
                            **chosen("masked_conv2d", precision))
    return out


def _fake(x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int], padding: Sequence[int],
          dilation: Sequence[int], groups: int, *, backend: str = "auto", straight_through: bool = False,
          precision: str = DEFAULT) -> Tensor:
    check_precision("masked_conv2d", precision)
    check(x, weight, words, stride, padding, dilation, groups)
    return x.new_empty(output_shape(x, weight, words, stride, padding, dilation))


def _setup(ctx: Any, inputs: tuple[Any, ...], keyword_only_inputs: dict[str, Any], output: Tensor) -> None:
    x, weight, words, *ctx.geometry = inputs
    ctx.save_for_backward(x, weight, words)
    ctx.straight_through = keyword_only_inputs["straight_through"]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:2]
    grads = backward_operator(grad, *ctx.saved_tensors, *ctx.geometry, straight_through=ctx.straight_through)
    return (*(g if want else None for g, want in zip(grads, wanted, strict=True)), None, None, None, None, None)


def _backward_kernel(grad: Tensor, x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int],
                     padding: Sequence[int], dilation: Sequence[int], groups: int, *,
                     straight_through: bool) -> tuple[Tensor, Tensor]:
    mask = unpack(words, weight.shape[1:].numel()).reshape(words.shape[0], *weight.shape)
    grad_x, grad_weight = torch.zeros_like(x), torch.zeros_like(weight)
    for p in range(words.shape[0] if weight.numel() else 0):
        to_x, to_weight, _ = torch.ops.aten.convolution_backward(
            grad[p], x if x.dim() == 4 else x[p], weight * mask[p], None, stride, padding, dilation, False, [0, 0],
            groups, [True, True, False])
        (grad_x if x.dim() == 4 else grad_x[p]).add_(to_x)
        grad_weight += to_weight if straight_through else to_weight * mask[p]
    return grad_x, grad_weight


def _backward_fake(grad: Tensor, x: Tensor, weight: Tensor, words: Tensor, stride: Sequence[int],
                   padding: Sequence[int], dilation: Sequence[int], groups: int, *,
                   straight_through: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight)


operator = register(
    "masked_conv2d",
    "(Tensor x, Tensor weight, Tensor words, int[] stride, int[] padding, int[] dilation, int groups, *, "
    "str backend='auto', bool straight_through=False, str precision='fp32') -> Tensor",
    kernel=_kernel, fake=_fake)
# An operator of its own: Inductor mistakes the strides that aten's convolution_backward asks for.
backward_operator = register(
    "masked_conv2d_backward",
    "(Tensor grad, Tensor x, Tensor weight, Tensor words, int[] stride, int[] padding, int[] dilation, int groups, *, "
    "bool straight_through) -> (Tensor, Tensor)",
    kernel=_backward_kernel, fake=_backward_fake)
register_backward("masked_conv2d", _setup, _backward)
register_batching("masked_conv2d", operator, candidate_dims=5)
