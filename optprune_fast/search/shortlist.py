"""Second-order shortlists: what may go and what may come, ranked by the change of loss that a quadratic predicts.

    drop a kept weight    - g w + F w² / 2
    add a dropped weight  + g w + F w² / 2

g is the mean gradient of the effective weight, F the mean of its squares over samples, an estimate of the curvature
(the empirical Fisher). A score is a shortlist and never an answer: flips interact.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.search.problem import Problem


@dataclass(frozen=True)
class Shortlist:
    """int64 flat indices, most promising first: kept weights that may go, and dropped ones that may come."""

    drops: Tensor
    adds: Tensor


def shortlist(problem: Problem, parent: PackedMasks, evaluator: Evaluator | None = None) -> Shortlist:
    """Rank every flip that the problem allows, with gradients on all calibration data or on a part of them."""
    g, f = problem.gradients(parent, evaluator)
    slope, curve = g * problem.weights, f * problem.weights.square() / 2
    kept = parent.flat()[0]
    may_go, may_come = kept & problem.is_open, ~kept & problem.is_open
    return Shortlist(_ascending(curve - slope, may_go), _ascending(curve + slope, may_come))


def _ascending(score: Tensor, eligible: Tensor) -> Tensor:
    indices = eligible.nonzero().flatten()
    return indices[score[indices].argsort(stable=True)]
