"""The mean of an objective over samples, with a gradient."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from optprune_fast.engine.batches import Batch
from optprune_fast.engine.objective import (
    NAMED,
    Objective,
    UserObjective,
    check_targets,
    cross_entropy,
    kl_to_dense,
    named_or_own,
)
from optprune_fast.runtime.errors import message

JUDGED_AT_ONCE = 1000  # samples


class Loss:
    """An objective of the evaluator, as training needs it.

    teacher: the unpruned network, in eval mode, where the objective compares with it
    distill: share of what is learnt from its classes instead of the targets, where those are classes
    """

    def __init__(self, where: str, model: nn.Module, batches: list[Batch], objective: str | UserObjective,
                 distill: float = 0.0) -> None:
        dense = deepcopy(model).eval().requires_grad_(False)
        device = device_of(model)
        example = batches[0].pick(slice(0, 2)).to(device)
        outputs = dense(*example.args, **example.kwargs)
        self.objective: Objective = named_or_own(objective, outputs, example.targets)
        if self.objective is named_or_own("error", outputs, example.targets):
            raise ValueError(message(where, "the objective must have a gradient, and a count of errors has none",
                                     "'cross_entropy' has one", objective=objective))
        if self.objective.needs_targets:
            for batch in batches:
                like = outputs.new_empty(()).expand(batch.size, *outputs.shape[1:])
                check_targets(self.objective.name, like, batch.targets)
        if distill:
            self.objective = distilled(where, self.objective, distill)
        self.teacher = dense if self.objective.needs_dense else None
        self.device = device

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean loss of a batch on the model's device, a scalar."""
        return self.of_outputs(model(*batch.args, **batch.kwargs), batch)

    def of_outputs(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The mean loss of outputs that the network gave for a batch, a scalar."""
        if self.objective.whole is not None:
            return self.objective.whole(outputs, batch.targets).reshape(())
        dense = None
        if self.teacher is not None:
            with torch.no_grad():
                dense = self.teacher(*batch.args, **batch.kwargs)
        return self.objective.per_sample(outputs.unsqueeze(0), batch.targets, dense)[0].mean()

    def judge(self, model: nn.Module, batches: Iterable[Batch]) -> float:
        """The mean over all samples, of a model in eval mode; an objective for all outputs sees chunks of them."""
        total, samples = 0.0, 0
        with torch.no_grad():
            for batch in batches:
                for chunk in batch.chunks(JUDGED_AT_ONCE):
                    total += float(self(model, chunk.to(self.device))) * chunk.size
                    samples += chunk.size
        return total / samples


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters lie."""
    return next(model.parameters()).device


def distilled(where: str, objective: Objective, share: float) -> Objective:
    """Cross-entropy with targets of which a share is what the unpruned network says (Hinton, Vinyals, Dean:
    Distilling the knowledge in a neural network, 2015), but for a constant."""
    if objective is not NAMED["cross_entropy"]:
        raise ValueError(message(where, "distill= mixes the targets of cross-entropy with the unpruned network's "
                                 "classes", "distill=0 takes any objective", distill=share, objective=objective.name))

    if share == 1:
        return NAMED["kl_to_dense"]

    def per_sample(outputs: Tensor, targets: Tensor | None, dense: Tensor | None) -> Tensor:
        own = cross_entropy(outputs, targets)
        return own.lerp(kl_to_dense(outputs, targets, dense).to(own.dtype), share)

    return Objective(f"{share:g} distilled", per_sample, needs_targets=True, needs_dense=True)
