"""The float64 answer, and how far from it float32 may be."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from optprune_fast.bench.problem import Masks, Problem
from optprune_fast.plan.model import logits
from optprune_fast.runtime.errors import message


class RivalError(ValueError):
    """A rival that fails, or answers something else than the loss. It is never timed, and never counts as slow."""


@dataclass(frozen=True, eq=False)
class Oracle:
    """A few candidates of one population, evaluated in float64.

    masks:  the population;   candidates: how many of it are looked at, the first and the last among them
    """

    problem: Problem
    masks: Masks
    candidates: int = 3

    @cached_property
    def chosen(self) -> list[int]:
        last = len(self.masks) - 1
        return sorted({round(i * last / max(1, self.candidates - 1)) for i in range(self.candidates)})

    @cached_property
    def reference(self) -> Tensor:
        """float64 [chosen]."""
        return self._exact[0].mean(1)

    @cached_property
    def limit(self) -> float:
        """e(ours) ≤ 2 · e(torch, same dtype) + u · (1 + √terms) · magnitude, as everywhere in the package; torch's
        error is its largest on any *sample*, since that of the mean over samples may be nought by luck."""
        exact, magnitude = self._exact
        weights = self.problem.weights
        torch_error = float((self._samples(self.problem.model, weights, self.problem.inputs) - exact).abs().max())
        terms = max(weight.numel() // weight.shape[0] for weight in weights.values())
        roundoff = max(torch.finfo(weight.dtype).eps / 2 for weight in weights.values())
        return 2 * torch_error + roundoff * (1 + math.sqrt(terms)) * max(1.0, magnitude)

    def check(self, name: str, fitness: Tensor) -> float:
        """The largest error of a rival's answer for the whole population; `RivalError` if it is over the limit."""
        if fitness.shape != (len(self.masks),):
            raise RivalError(message(f"rival {name!r}", "must give one loss a candidate", fitness=fitness,
                                     candidates=len(self.masks)))
        error = float((fitness[self.chosen].double() - self.reference).abs().max())
        if not error <= self.limit:  # said this way round, a NaN fails
            raise RivalError(message(f"rival {name!r}", "does not give the loss of these masks, so it is not timed",
                                     problem=self.problem.name, error=error, limit=self.limit,
                                     float64=self.reference.tolist(), rival=fitness[self.chosen].tolist()))
        return error

    @cached_property
    def _exact(self) -> tuple[Tensor, float]:
        """(loss [chosen, B], the largest logit)."""
        wide = copy.deepcopy(self.problem.model).double()
        inputs = self.problem.inputs.double() if self.problem.inputs.is_floating_point() else self.problem.inputs
        weights = {name: weight.double() for name, weight in self.problem.weights.items()}
        with torch.inference_mode():
            largest = float(logits(functional_call(wide, self._masked(weights, 0), (inputs,))).abs().max())
        return self._samples(wide, weights, inputs), largest

    def _samples(self, model: nn.Module, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            outputs = [logits(functional_call(model, self._masked(weights, p), (inputs,))) for p in self.chosen]
            return torch.stack([F.cross_entropy(out, self.problem.targets, reduction="none") for out in outputs])

    def _masked(self, weights: dict[str, Tensor], p: int) -> dict[str, Tensor]:
        one = self.masks.packed[p].to_dense()
        return {name: weight * one[name][0] for name, weight in weights.items()}


def agree(name: str, fitness: Tensor, other: str, expected: Tensor, limit: float) -> None:
    """Raise `RivalError` unless two rivals answered alike in a timed call; each may be `limit` from the truth."""
    difference = float((fitness.double() - expected.double()).abs().max())
    if not difference <= 2 * limit:
        raise RivalError(message(f"rival {name!r}", f"differs from {other!r} in a timed call", difference=difference,
                                 limit=2 * limit))
