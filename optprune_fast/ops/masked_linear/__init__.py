"""masked_linear: one linear layer under many masks at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optprune_fast.ops.checks import check_masked, require
from optprune_fast.ops.library import register, register_backward, register_batching
from optprune_fast.ops.precision import DEFAULT, check_precision, chosen
from optprune_fast.ops.words import unpack
from optprune_fast.runtime.dispatch import Operation

operation = Operation("masked_linear", __name__, ("cuda", "triton", "native", "numba", "torch"))


def masked_linear(x: Tensor, weight: Tensor, words: Tensor, *, backend: str = "auto",
                  straight_through: bool = False, precision: str = DEFAULT) -> Tensor:
    """Apply one linear layer under each of `P` masks: `out[p] = x @ (weight * mask[p]).T`.

    x:        float [B, I], shared by all candidates, or [P, B, I], one input each
    weight:   float [O, I], same dtype as x
    words:    int64 [P, O, ⌈I/64⌉], packed rows with a zero tail (docs/FORMATS.md)
    returns:  float [P, B, O]

    precision: "fp32", "tf32x3", "tf32", "fp16" or "bf16": how float32 factors are multiplied (`ops/precision.py`). The
              triton backend alone has the choice, and gradients have none

    The gradient of `weight` counts kept weights only; with `straight_through=True` it is the gradient of the
    *effective* weight, so dropped weights get theirs too.

    Raises `TypeError` for wrong dtypes, `ValueError` for wrong shapes or devices, `BackendError` if the backend
    asked for cannot serve the call.

    >>> x, weight = torch.tensor([[1.0, 10.0]]), torch.tensor([[2.0, 3.0]])
    >>> masked_linear(x, weight, torch.tensor([[[0b01]], [[0b11]]]))
    tensor([[[ 2.]],
    <BLANKLINE>
            [[32.]]])
    """
    out: Tensor = operator(x, weight, words, backend=backend, straight_through=straight_through, precision=precision)
    return out


def check(x: Tensor, weight: Tensor, words: Tensor) -> None:
    where = "masked_linear"
    require(weight.dim() == 2, where, "weight must be [O, I]", x=x, weight=weight, words=words)
    check_masked(where, x, weight, words)
    require(x.dim() in (2, 3) and x.shape[-1] == weight.shape[1], where,
            f"x must be [B, {weight.shape[1]}] or [P, B, {weight.shape[1]}] for this weight",
            x=x, weight=weight, words=words)
    require(x.dim() == 2 or x.shape[0] == words.shape[0], where, "x and words must have the same number of candidates",
            x=x, weight=weight, words=words)


def _kernel(x: Tensor, weight: Tensor, words: Tensor, *, backend: str = "auto",
            straight_through: bool = False, precision: str = DEFAULT) -> Tensor:
    check(x, weight, words)
    out: Tensor = operation(x, weight, words, backend=backend, **chosen("masked_linear", precision))
    return out


def _fake(x: Tensor, weight: Tensor, words: Tensor, *, backend: str = "auto",
          straight_through: bool = False, precision: str = DEFAULT) -> Tensor:
    check_precision("masked_linear", precision)
    check(x, weight, words)
    return x.new_empty(words.shape[0], x.shape[-2], weight.shape[0])


def _setup(ctx: Any, inputs: tuple[Tensor, ...], keyword_only_inputs: dict[str, Any], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)
    ctx.straight_through = keyword_only_inputs["straight_through"]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, weight, words = ctx.saved_tensors
    grad_x = grad_weight = None
    if ctx.needs_input_grad[0]:
        grad_x = torch.matmul(grad, weight * unpack(words, weight.shape[1]))
        grad_x = grad_x if x.dim() == 3 else grad_x.sum(0)
    if ctx.needs_input_grad[1]:
        per_candidate = torch.matmul(grad.transpose(1, 2), x)
        kept = per_candidate if ctx.straight_through else per_candidate * unpack(words, weight.shape[1])
        grad_weight = kept.sum(0)
    return grad_x, grad_weight, None


operator = register(
    "masked_linear",
    "(Tensor x, Tensor weight, Tensor words, *, str backend='auto', bool straight_through=False, "
    "str precision='fp32') -> Tensor",
    kernel=_kernel, fake=_fake)
register_backward("masked_linear", _setup, _backward)
register_batching("masked_linear", operator, candidate_dims=3)
