"""What gradients are asked for, and the sums that they are added to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from optprune_fast.engine.batches import Batch
from optprune_fast.engine.forward import MaskedForward
from optprune_fast.engine.objective import Objective


@dataclass(frozen=True)
class Problem:
    """The objective as a function of the effective weights.

    weights:  {name: weight * mask}
    memory:   bytes that tensors beside the weights may take, as far as one sample allows
    """

    forward: MaskedForward
    objective: Objective
    weights: dict[str, Tensor]
    memory: int

    def dense_outputs(self, batch: Batch) -> Tensor | None:
        """[B, …]: outputs of the unpruned network, if the objective compares with them."""
        # Tensors born in inference mode cannot take part in autograd; copies can.
        return self.forward.dense(batch).clone() if self.objective.needs_dense else None

    def loss(self, weights: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], targets: Tensor | None,
             dense: Tensor | None) -> Tensor:
        """The objective under these effective weights, summed over samples."""
        forward = self.forward
        outputs = forward.scaled(functional_call(forward.model, {**forward.state, **weights}, args, kwargs))
        return self.objective.per_sample(outputs.unsqueeze(0), targets, dense).sum()


@dataclass(frozen=True)
class Sums:
    """Sums over samples, shaped as the weights, in float32 or wider: of gradients, and of their squares."""

    first: dict[str, Tensor]
    second: dict[str, Tensor]

    @staticmethod
    def zeros(weights: dict[str, Tensor]) -> Sums:
        def zero(weight: Tensor) -> Tensor:
            return torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32),
                                    memory_format=torch.contiguous_format)

        return Sums({name: zero(w) for name, w in weights.items()}, {name: zero(w) for name, w in weights.items()})
