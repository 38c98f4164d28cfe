"""Gradients layer by layer: one forward and one backward pass over many samples.

The loss is the sum of every sample's own, so as long as samples do not mix, row b of the gradient of a layer's output
is the gradient of sample b's loss. With the layer's input it makes the gradient of the weight; nothing else is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from optprune_fast.engine.batches import Batch
from optprune_fast.engine.gradients_products import Use, add_products
from optprune_fast.engine.gradients_sums import Problem, Sums
from optprune_fast.engine.masked_weight import _METADATA, _OPERATIONS, _Call

# Ways in which values leave torch, so that one sample may decide what is done to another, and no operator tells.
_COPIES_OUT = {Tensor.tolist, Tensor.numpy, Tensor.__array__}


def add_layer_by_layer(problem: Problem, batch: Batch, sums: Sums) -> bool:
    """Add the gradients of a batch of samples; False, and nothing is added, where that cannot be done (`stray`).

    That samples do not mix is for the caller to know.
    """
    capture = _Capture(problem, batch, sums)
    dense = problem.dense_outputs(batch)
    with torch.enable_grad(), capture:
        loss = problem.loss(problem.weights, batch.args, batch.kwargs, batch.targets, dense)
    if capture.stray:
        return False
    if loss.requires_grad:  # an objective of steps, as "error" is, has no gradient
        torch.autograd.grad(loss, capture.start, allow_unused=True)
    capture.finish()
    return True


class _Capture(TorchFunctionMode):
    """Watches a forward pass for uses of the weights; the backward pass brings the gradients of their outputs.

    stray:  a weight was used outside a layer, or by one whose first dimension cannot be the samples; or values were
            copied out of torch, which only `vmap` sees to it that they are not
    start:  where the graph begins: outputs of the first layers have to have gradients too
    """

    def __init__(self, problem: Problem, batch: Batch, sums: Sums) -> None:
        super().__init__()
        self.problem, self.size, self.sums = problem, batch.size, sums
        self.names = {id(weight): name for name, weight in problem.weights.items()}
        self.uses = dict.fromkeys(problem.weights, 0)
        self.several: dict[str, list[Use]] = {}
        self.stray = False
        self.start = torch.zeros((), requires_grad=True)

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        used = [value for value in tree_leaves((args, kwargs)) if id(value) in self.names]
        out = func(*args, **kwargs)
        if len(used) == 1 and func in _OPERATIONS:
            call = _Call(func, *args, **kwargs)
            if call.weight is used[0] and out.dim() == call.x.dim() >= call.weight.dim() and len(call.x) == self.size:
                name = self.names[id(call.weight)]
                self.uses[name] += 1
                return _Watch.apply(  # type: ignore[no-untyped-call]
                    out, call.x, self.start, lambda x, d: self._arrived(name, Use(call, x, d)))
        self.stray |= bool(used) and func not in _METADATA
        self.stray |= func in _COPIES_OUT and self.problem.forward.way == "loop"
        return out

    def _arrived(self, name: str, use: Use) -> None:
        if self.uses[name] > 1:  # gradients of one weight add up before they are squared
            self.several.setdefault(name, []).append(use)
        else:
            self._add(name, [use])

    def finish(self) -> None:
        """Add what had to wait for the whole backward pass."""
        for name, uses in self.several.items():
            self._add(name, uses)

    def _add(self, name: str, uses: list[Use]) -> None:
        with torch.no_grad():
            add_products(uses, self.sums.first[name], self.sums.second[name], self.problem.memory)


class _Watch(torch.autograd.Function):
    """Hands a layer's output on, and its gradient back; says what the gradient was, and what the layer's input."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, x: Tensor, start: Tensor, arrived: Callable[[Tensor, Tensor], None]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.arrived = arrived
        return out.data  # neither a copy nor a view, so that the model may change it in place

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.arrived(*ctx.saved_tensors, d)
        return d, None, None, None
