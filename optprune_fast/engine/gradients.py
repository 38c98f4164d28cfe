"""Gradients of the objective for every effective weight, dropped ones included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from optprune_fast.engine.batches import Batch
from optprune_fast.engine.forward import MaskedForward, eval_mode, logits
from optprune_fast.engine.objective import Objective
from optprune_fast.masks.packed import PackedMasks


def gradients(forward: MaskedForward, objective: Objective, batches: Iterable[Batch], mask: PackedMasks,
              memory: int) -> dict[str, tuple[Tensor, Tensor]]:
    """{name: (mean gradient, mean squared per-sample gradient)} of the effective weights under one mask."""
    dense = mask.to_dense()
    effective = {name: forward.state[name] * bits[0] for name, bits in dense.items()}
    rest = {name: tensor for name, tensor in forward.state.items() if name not in effective}
    # Per-sample gradients of all weights are alive together, once as they are and once squared.
    at_once = max(1, memory // (2 * sum(t.nbytes for t in effective.values())))
    first = {name: torch.zeros_like(t) for name, t in effective.items()}
    second = {name: torch.zeros_like(t) for name, t in effective.items()}
    samples = 0
    with eval_mode(forward.model), _one_thread(), sdpa_kernel(SDPBackend.MATH):
        for batch in batches:
            samples += batch.size
            for chunk in batch.chunks(at_once):
                dense_outputs = forward.dense(chunk).clone() if objective.needs_dense else None
                for name, each in _per_sample(forward, objective, effective, rest, chunk, dense_outputs).items():
                    first[name] += each.sum(0)
                    second[name] += each.square().sum(0)
    return {name: (first[name] / samples, second[name] / samples) for name in effective}


def _per_sample(forward: MaskedForward, objective: Objective, effective: dict[str, Tensor], rest: dict[str, Tensor],
                batch: Batch, dense: Tensor | None) -> dict[str, Tensor]:
    """{name: [B, *weight.shape]}."""

    def loss(weights: dict[str, Tensor], sample: tuple[Any, ...]) -> Tensor:
        args, kwargs, targets, wanted = sample
        outputs = logits(functional_call(forward.model, {**rest, **weights}, args, kwargs))
        return objective.per_sample(outputs.unsqueeze(0), targets, wanted).sum()

    def axis(value: Any) -> int | None:
        return 0 if batch._per_sample(value) else None

    def alone(value: Any) -> Any:  # vmap takes the sample axis away; a batch of one puts it back
        return value.unsqueeze(1) if batch._per_sample(value) else value

    sample = (batch.args, batch.kwargs, batch.targets, dense)
    if forward.way == "loop":
        return _one_by_one(loss, effective, batch, dense)
    per_sample = vmap(grad(loss), in_dims=(None, tree_map(axis, sample, is_leaf=lambda v: v is None)),
                      randomness="different")
    out: dict[str, Tensor] = per_sample(effective, tree_map(alone, sample, is_leaf=lambda v: v is None))
    return out


def _one_by_one(loss: Callable[[dict[str, Tensor], tuple[Any, ...]], Tensor], effective: dict[str, Tensor],
                batch: Batch, dense: Tensor | None) -> dict[str, Tensor]:
    """The same where `vmap` cannot go: a backward pass a sample."""
    leaves = {name: weight.detach().requires_grad_() for name, weight in effective.items()}
    grads = []
    for i in range(batch.size):
        one, at = batch.pick(slice(i, i + 1)), slice(i, i + 1)
        with torch.enable_grad():
            value = loss(leaves, (one.args, one.kwargs, one.targets, None if dense is None else dense[at]))
        grads.append(torch.autograd.grad(value, list(leaves.values()), materialize_grads=True))
    return {name: torch.stack(each) for name, each in zip(leaves, zip(*grads, strict=True), strict=True)}


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
