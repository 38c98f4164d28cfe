"""sparse_conv2d: a convolution that reads its kept weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from optprune_fast.ops.checks import check_sparse, require
from optprune_fast.ops.geometry import output_size
from optprune_fast.ops.library import register, register_backward, register_sample_batching
from optprune_fast.ops.slices import Slices, dense_weight
from optprune_fast.runtime.dispatch import Operation

operation = Operation("sparse_conv2d", __name__, ("native", "numba", "torch"))


def sparse_conv2d(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
                  starts: Tensor, bias: Tensor | None = None, stride: Sequence[int] = (1, 1),
                  padding: Sequence[int] = (0, 0), dilation: Sequence[int] = (1, 1), groups: int = 1, *,
                  backend: str = "auto") -> Tensor:
    """Apply a convolution whose weight [O, C/groups, kh, kw] lies in slices: `conv2d(x, weight, bias, …)`.

    x:        float [B, C, H, W], same dtype as values and bias
    shape:    [O, C/groups, kh, kw]; a row of the weight is an output channel with C/groups · kh · kw columns
    values, places, counts, rows, starts: the planes, made with the same groups (optprune_fast/ops/slices.py); kernels
              trust what they hold, and `check_slices` looks
    stride, padding, dilation: two whole numbers each, (height, width); zeros are padded
    returns:  float [B, O, H', W'], with H', W' as `torch.nn.functional.conv2d` has them; float32 sums for 16-bit types.
              Gradients of x and bias; weights have none

    Raises `TypeError` for wrong dtypes, `ValueError` for wrong shapes or devices, `BackendError` if the backend asked
    for cannot serve the call.

    >>> from optprune_fast.ops.slices import to_slices
    >>> planes = to_slices(torch.tensor([[0b0111]]), torch.ones(3), 4)
    >>> sparse_conv2d(torch.ones(1, 1, 2, 2), [1, 1, 2, 2], *planes).flatten()
    tensor([3.])
    """
    out: Tensor = operator(x, list(shape), values, places, counts, rows, starts, bias, list(stride), list(padding),
                           list(dilation), groups, backend=backend)
    return out


def serve(x: Tensor, shape: Sequence[int], values: Tensor, *rest: Any) -> Tensor:
    """`sparse_conv2d` for a layer in use, whose planes and geometry fit: no gradient, no graph of torch.compile, and a
    tenth of the time around the kernel. `x` alone is checked."""
    *_, padding, dilation, groups = rest
    fits = x.dim() == 4 and x.shape[1] == shape[1] * groups and x.dtype == values.dtype and x.device == values.device
    if not fits or any(x.shape[i + 2] + 2 * padding[i] <= dilation[i] * (shape[i + 2] - 1) for i in range(2)):
        return sparse_conv2d(x, shape, values, *rest)  # it says what is wrong
    out: Tensor = operation.serve(x, shape, values, *rest)
    return out


def check(x: Tensor, shape: Sequence[int], slices: Slices, bias: Tensor | None, stride: Sequence[int],
          padding: Sequence[int], dilation: Sequence[int], groups: int) -> tuple[int, ...]:
    """The shape of the output; raises what the function says."""
    where = "sparse_conv2d"
    require(len(shape) == 4 and min(shape[:2]) >= 0 and min(shape[2:]) >= 1, where,
            "shape must be [O, C/groups, kh, kw] with kh and kw of at least 1", shape=list(shape))
    for name, pair, least in (("stride", stride, 1), ("padding", padding, 0), ("dilation", dilation, 1)):
        require(len(pair) == 2 and min(pair) >= least, where, f"{name} must be two whole numbers of at least {least}",
                "", **{name: list(pair)})
    require(groups >= 1 and shape[0] % groups == 0, where, "groups must divide the outputs O of the weight",
            groups=groups, shape=list(shape))
    check_sparse(where, x, shape[0], shape[1] * shape[2] * shape[3], groups, slices, bias)
    require(x.dim() == 4 and x.shape[1] == shape[1] * groups, where,
            f"x must be [B, {shape[1] * groups}, H, W] for this weight", x=x, shape=list(shape), groups=groups)
    plane = [output_size(x.shape[i + 2], shape[i + 2], stride[i], padding[i], dilation[i]) for i in range(2)]
    require(min(plane) >= 1, where, "the kernel must fit into the padded input", x=x, shape=list(shape),
            stride=list(stride), padding=list(padding), dilation=list(dilation))
    return x.shape[0], shape[0], *plane


def _kernel(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
            starts: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
            dilation: Sequence[int], groups: int, *, backend: str = "auto") -> Tensor:
    check(x, shape, Slices(values, places, counts, rows, starts), bias, stride, padding, dilation, groups)
    out: Tensor = operation(x, shape, values, places, counts, rows, starts, bias, stride, padding, dilation, groups,
                            backend=backend)
    return out


def _fake(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
          starts: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
          dilation: Sequence[int], groups: int, *, backend: str = "auto") -> Tensor:
    return x.new_empty(check(x, shape, Slices(values, places, counts, rows, starts), bias, stride, padding, dilation,
                             groups))


def _setup(ctx: Any, inputs: tuple[Any, ...], keyword_only_inputs: dict[str, Any], output: Tensor) -> None:
    x, ctx.shape, *planes, _, ctx.stride, ctx.padding, ctx.dilation, ctx.groups = inputs
    ctx.save_for_backward(*planes)
    ctx.x_shape = x.shape


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_x = grad_bias = None
    if ctx.needs_input_grad[0]:
        grad_x = backward_operator(grad, list(ctx.x_shape), ctx.shape, *ctx.saved_tensors, ctx.stride, ctx.padding,
                                   ctx.dilation, ctx.groups)
    if ctx.needs_input_grad[7]:
        grad_bias = grad.sum((0, 2, 3))
    return grad_x, None, None, None, None, None, None, grad_bias, None, None, None, None


def _backward_kernel(grad: Tensor, x_shape: Sequence[int], shape: Sequence[int], values: Tensor, places: Tensor,
                     counts: Tensor, rows: Tensor, starts: Tensor, stride: Sequence[int], padding: Sequence[int],
                     dilation: Sequence[int], groups: int) -> Tensor:
    weight = dense_weight(Slices(values, places, counts, rows, starts), shape, groups=groups)
    x = grad.new_empty(1).expand(x_shape)  # its values are not looked at
    out: Tensor = torch.ops.aten.convolution_backward(grad, x, weight, None, stride, padding, dilation, False, [0, 0],
                                                      groups, [True, False, False])[0]
    return out


def _backward_fake(grad: Tensor, x_shape: Sequence[int], *rest: Any) -> Tensor:
    return grad.new_empty(x_shape)


operator = register(
    "sparse_conv2d",
    "(Tensor x, int[] shape, Tensor values, Tensor places, Tensor counts, Tensor rows, Tensor starts, Tensor? bias, "
    "int[] stride, int[] padding, int[] dilation, int groups, *, str backend='auto') -> Tensor",
    kernel=_kernel, fake=_fake)
# An operator of its own, for torch.compile: how many values a weight has is known when it runs.
backward_operator = register(
    "sparse_conv2d_backward",
    "(Tensor grad, SymInt[] x_shape, int[] shape, Tensor values, Tensor places, Tensor counts, Tensor rows, "
    "Tensor starts, int[] stride, int[] padding, int[] dilation, int groups) -> Tensor",
    kernel=_backward_kernel, fake=_backward_fake)
register_backward("sparse_conv2d", _setup, _backward)
register_sample_batching("sparse_conv2d", operator)
