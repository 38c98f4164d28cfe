"""What is minimised: one number a sample from a candidate's outputs, averaged over samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from optprune_fast.runtime.errors import message

UserObjective = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Objective:
    """A named objective, or the caller's own.

    per_sample:     (outputs [P, B, …], targets [B, …] or None, dense outputs [B, …] or None) -> [P, B]
    needs_targets:  class indices are needed
    needs_dense:    the outputs of the unpruned network are needed
    whole:          the caller's own function gives one number for all outputs of a candidate
    """

    name: str
    per_sample: Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
    needs_targets: bool = False
    needs_dense: bool = False
    whole: UserObjective | None = None

    @property
    def named(self) -> bool:
        """Whether this is ours: a function of the caller's may have the name of one."""
        return NAMED.get(self.name) is self


def cross_entropy(outputs: Tensor, targets: Tensor | None, dense: Tensor | None = None) -> Tensor:
    """[P, B]: minus the log-probability of the target class (dimension 2 of the outputs), averaged over positions."""
    picked = F.log_softmax(outputs.float() if outputs.dtype.itemsize < 4 else outputs, dim=2)
    index = _classes(targets).expand(outputs.shape[0], *_classes(targets).shape).unsqueeze(2)
    return _mean_rest(-picked.gather(2, index).squeeze(2))


def error(outputs: Tensor, targets: Tensor | None, dense: Tensor | None = None) -> Tensor:
    """[P, B]: 1 where the largest output is not the target class, averaged over positions."""
    return _mean_rest((outputs.argmax(2) != _classes(targets)).to(torch.float32))


def kl_to_dense(outputs: Tensor, targets: Tensor | None, dense: Tensor | None) -> Tensor:
    """[P, B]: Kullback-Leibler divergence of the candidate's classes from the unpruned network's."""
    assert dense is not None
    wanted = F.log_softmax(dense, dim=1)
    return _mean_rest((wanted.exp() * (wanted - F.log_softmax(outputs, dim=2))).sum(2))


def mse_to_dense(outputs: Tensor, targets: Tensor | None, dense: Tensor | None) -> Tensor:
    """[P, B]: mean squared difference from the unpruned network's outputs."""
    assert dense is not None
    return _mean_rest((outputs - dense).square())


NAMED = {
    "cross_entropy": Objective("cross_entropy", cross_entropy, needs_targets=True),
    "error": Objective("error", error, needs_targets=True),
    "kl_to_dense": Objective("kl_to_dense", kl_to_dense, needs_dense=True),
    "mse_to_dense": Objective("mse_to_dense", mse_to_dense, needs_dense=True),
}


def named_or_own(objective: str | UserObjective, outputs: Tensor, targets: Tensor | None) -> Objective:
    """Find the objective, and for the caller's own find out what it gives by one call on example outputs.

    outputs: [B, …], of the unpruned network;   targets: [B, …] or None
    """
    if isinstance(objective, str):
        if objective not in NAMED:
            raise ValueError(message("Evaluator", "unknown objective", f"one of {', '.join(NAMED)}, or a callable "
                                     "(outputs, targets)", objective=objective))
        if objective == "kl_to_dense" and outputs.dim() < 2:
            raise ValueError(message("objective 'kl_to_dense'", "outputs must be [B, classes, …]",
                                     "'mse_to_dense' takes outputs of any shape", outputs=outputs))
        return NAMED[objective]
    result = objective(outputs, targets)
    name = getattr(objective, "__name__", type(objective).__name__)
    if isinstance(result, Tensor) and result.dim() > 0 and result.shape[0] == outputs.shape[0]:
        return Objective(name, lambda outputs, targets, dense: torch.stack(
            [_mean_rest(objective(candidate, targets).unsqueeze(0)).squeeze(0) for candidate in outputs]))
    if isinstance(result, (float, int)) or (isinstance(result, Tensor) and result.numel() == 1):
        return Objective(name, lambda outputs, targets, dense: outputs, whole=objective)
    raise ValueError(message("Evaluator", "a callable objective must give one number a sample, or one number for all",
                             objective=name, result=result))


def check_targets(name: str, outputs: Tensor, targets: Tensor | None) -> None:
    """Raise unless `targets` are class indices that the outputs have. outputs: [B, C, …]; targets: [B, …]."""
    where = f"objective {name!r}"
    if targets is None:
        raise ValueError(message(where, "it needs targets, and the data has none",
                                 "pass (inputs, targets), or use 'kl_to_dense'"))
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(message(where, "targets must be class indices (whole numbers)", targets=targets))
    if outputs.dim() < 2 or outputs.shape[2:] != targets.shape[1:]:
        raise ValueError(message(where, "outputs must be [B, classes, …] and targets [B, …]", outputs=outputs,
                                 targets=targets))
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= outputs.shape[1]:
        raise ValueError(message(where, f"targets must lie in [0, {outputs.shape[1]}), the classes of the outputs",
                                 smallest=low, largest=high))


def has_classes(outputs: Tensor, targets: Tensor | None) -> bool:
    """Whether targets are class indices for these outputs, so that an accuracy makes sense."""
    return (targets is not None and not targets.is_floating_point() and targets.dtype != torch.bool and
            outputs.dim() >= 2 and outputs.shape[2:] == targets.shape[1:])


def ordered_sum(values: Tensor) -> Tensor:
    """float64 [P]: the sum of each row of [P, B], one addend after the other.

    A plain sum splits its work by the number of threads, and with it the rounding; a cumulative sum does not.
    """
    return values.double().cumsum(1)[:, -1]


def _classes(targets: Tensor | None) -> Tensor:
    assert targets is not None
    return targets.long()


def _mean_rest(values: Tensor) -> Tensor:
    return values if values.dim() == 2 else values.flatten(2).mean(2)
