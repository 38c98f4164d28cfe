"""The gradient of a linear layer whose weight lies in planes, whichever they are: that of x and of the bias."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from torch import Tensor

from optprune_fast.ops.library import register, register_backward

P = TypeVar("P", bound=tuple[Tensor, ...])


def register_linear_backward(name: str, planes: Callable[..., P], names: Sequence[str],
                             bands: Callable[[P, int, int], Iterator[tuple[slice, Tensor]]]) -> None:
    """Give `optprune_fast::<name>(x, shape, *planes, bias)` a gradient.

    planes:  makes them one value of their tensors, which have these names;   bands: (rows, dense weight of these)
    """

    def kernel(grad: Tensor, shape: Sequence[int], *tensors: Tensor) -> Tensor:
        out = grad.new_zeros(*grad.shape[:-1], shape[1])
        for rows, weight in bands(planes(*tensors), *shape):
            out += grad[..., rows] @ weight
        return out

    def fake(grad: Tensor, shape: Sequence[int], *tensors: Tensor) -> Tensor:
        return grad.new_empty(*grad.shape[:-1], shape[1])

    # An operator of its own, for torch.compile: how many values a weight has is known when it runs.
    operator = register(f"{name}_backward", f"(Tensor grad, int[] shape, {', '.join(f'Tensor {n}' for n in names)}) "
                        "-> Tensor", kernel=kernel, fake=fake)

    def setup(ctx: Any, inputs: tuple[Any, ...], keyword_only_inputs: dict[str, Any], output: Tensor) -> None:
        _, ctx.shape, *tensors, _ = inputs
        ctx.save_for_backward(*tensors)

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needs_x, *_, needs_bias = ctx.needs_input_grad
        grad_x = operator(grad, ctx.shape, *ctx.saved_tensors) if needs_x else None
        grad_bias = (grad.flatten(0, -2).sum(0) if grad.dim() > 1 else grad) if needs_bias else None
        return grad_x, None, *(None for _ in names), grad_bias

    register_backward(name, setup, backward)
