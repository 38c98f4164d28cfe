"""The mean gradient over a few samples, for searches that take many small steps."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from optprune_fast.engine.batches import Batch
from optprune_fast.engine.forward import MaskedForward
from optprune_fast.engine.gradients_sums import Problem
from optprune_fast.engine.objective import Objective
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.plan.model import eval_mode
from optprune_fast.runtime.threads import one_thread


def mean_gradients(forward: MaskedForward, objective: Objective, batches: Iterable[Batch], mask: PackedMasks,
                   memory: int) -> dict[str, Tensor]:
    """{name: mean gradient} of the effective weights under one mask, zeros where the objective has none."""
    weights = {name: (forward.state[name] * bits[0]).requires_grad_() for name, bits in mask.to_dense().items()}
    problem = Problem(forward, objective, weights, memory)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    samples = 0
    with eval_mode(forward.model), one_thread():
        for batch in batches:
            samples += batch.size
            with torch.enable_grad():
                loss = problem.loss(weights, batch.args, batch.kwargs, batch.targets, problem.dense_outputs(batch))
            if not loss.requires_grad:  # an objective of steps, as "error" is
                continue
            found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            for name, gradient in zip(weights, found, strict=True):
                if gradient is not None:
                    total[name] += gradient
    return {name: gradient.detach() / max(1, samples) for name, gradient in total.items()}
