"""Gradients of the objective for every effective weight, dropped ones included.

Two ways, which give the same numbers:

    layer by layer    one forward and one backward pass over many samples; each layer's input and the gradient of its
                      output are all that its weight's gradients are made of, and often two matrix products make them
    isolated          the gradient of all weights for each sample on its own: any model, but slow and large

The first is right only where weights are used by layers and samples do not mix, so it has to be proven first.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from optprune_fast.engine.batches import Batch
from optprune_fast.engine.forward import MaskedForward
from optprune_fast.engine.gradients_isolated import add_isolated
from optprune_fast.engine.gradients_layers import add_layer_by_layer
from optprune_fast.engine.gradients_proof import proof_of
from optprune_fast.engine.gradients_sums import Problem, Sums
from optprune_fast.engine.objective import Objective
from optprune_fast.plan.model import eval_mode
from optprune_fast.runtime.threads import one_thread


def gradients(forward: MaskedForward, objective: Objective, batches: Iterable[Batch], weights: dict[str, Tensor],
              memory: int) -> dict[str, tuple[Tensor, Tensor]]:
    """{name: (mean gradient, mean squared per-sample gradient)} at these effective weights."""
    problem = Problem(forward, objective, weights, memory)
    sums = Sums.zeros(weights)
    samples = 0
    with eval_mode(forward.model), one_thread(), sdpa_kernel(SDPBackend.MATH):
        for batch in batches:
            samples += batch.size
            proof = proof_of(forward, objective, batch, memory)
            for chunk in batch.chunks(max(1, memory // max(1, proof.sample_bytes))):
                if not proof.holds or not add_layer_by_layer(problem, chunk, sums):
                    add_isolated(problem, chunk, sums)
    return {name: (_mean(sums.first[name], samples, weight), _mean(sums.second[name], samples, weight))
            for name, weight in weights.items()}


def _mean(total: Tensor, samples: int, weight: Tensor) -> Tensor:
    return (total / samples).to(weight.dtype)
