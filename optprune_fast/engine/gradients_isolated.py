"""Gradients of each sample on its own: any model that `vmap` runs, and one sample at a time, any model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.utils._pytree import tree_map

from optprune_fast.engine.batches import Batch
from optprune_fast.engine.gradients_sums import Problem, Sums


def add_isolated(problem: Problem, batch: Batch, sums: Sums) -> None:
    """Add the gradients of a batch of samples."""
    # Per-sample gradients of all weights are alive together, once as they are and once squared.
    at_once = max(1, problem.memory // (2 * sum(t.nbytes for t in problem.weights.values())))
    for chunk in batch.chunks(at_once):
        for name, grads in _per_sample(problem, chunk).items():
            each = grads.to(sums.first[name].dtype)
            sums.first[name] += each.sum(0)
            sums.second[name] += each.square().sum(0)


def _per_sample(problem: Problem, batch: Batch) -> dict[str, Tensor]:
    """{name: [B, *weight.shape]}."""
    dense = problem.dense_outputs(batch)
    if problem.forward.way == "loop":
        return _one_by_one(problem, batch, dense)

    def loss(weights: dict[str, Tensor], sample: tuple[Any, ...]) -> Tensor:
        return problem.loss(weights, *sample)

    def axis(value: Any) -> int | None:
        return 0 if batch._per_sample(value) else None

    def alone(value: Any) -> Any:  # vmap takes the sample axis away; a batch of one puts it back
        return value.unsqueeze(1) if batch._per_sample(value) else value

    sample = (batch.args, batch.kwargs, batch.targets, dense)
    per_sample = vmap(grad(loss), in_dims=(None, tree_map(axis, sample, is_leaf=lambda v: v is None)),
                      randomness="different")
    out: dict[str, Tensor] = per_sample(problem.weights, tree_map(alone, sample, is_leaf=lambda v: v is None))
    return out


def _one_by_one(problem: Problem, batch: Batch, dense: Tensor | None) -> dict[str, Tensor]:
    """The same where `vmap` cannot go: a backward pass a sample."""
    leaves = {name: weight.detach().requires_grad_() for name, weight in problem.weights.items()}
    grads = []
    for i in range(batch.size):
        one, at = batch.pick(slice(i, i + 1)), slice(i, i + 1)
        with torch.enable_grad():
            value = problem.loss(leaves, one.args, one.kwargs, one.targets, None if dense is None else dense[at])
        grads.append(torch.autograd.grad(value, list(leaves.values()), materialize_grads=True))
    return {name: torch.stack(each) for name, each in zip(leaves, zip(*grads, strict=True), strict=True)}
