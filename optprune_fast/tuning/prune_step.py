"""One step that prunes: the weights whose absence costs least go, and those that stay make up for them.

    L + g·d + ½ d H d,  near the point:   solve for d over all kept weights        (what they would like to be)
                                          rank them by (w + d)² (F + λ) / 2        (what each one's absence costs)
                                          prune the last ones:  d = -w there, and solve again for d of the others

Optimal brain surgeon [1] prunes a weight and moves the others by the inverse curvature; here many go at once, and a few
conjugate gradients stand for the inverse: a product with the curvature costs no more than a gradient. F is the mean
squared slope of a sample's loss, the curvature's diagonal as optimal brain damage [2] takes it.

[1] Hassibi, Stork: Second order derivatives for network pruning, NIPS 1992.
[2] LeCun, Denker, Solla: Optimal brain damage, NIPS 1989.
"""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.masks.magnitude import select
from optprune_fast.tuning.gauss_newton import LEAST_DAMPING, TOLERANCE
from optprune_fast.tuning.kept import Kept
from optprune_fast.tuning.pcg import pcg
from optprune_fast.tuning.quadratic import Quadratic
from optprune_fast.tuning.support import Support


def prune_step(support: Support, near: Quadratic, gradient: Tensor, squares: Tensor, budget: int, damping: float,
               steps: int) -> bool:
    """Prune `support` to `budget` weights and change those that stay, both in place; False where no finite change was
    found: then nothing is changed, though weights may be pruned.

    near:               around the weights as they are, all kept weights of the mask
    gradient, squares:  of `near`, float64 [kept]: mean gradient, mean squared gradient of a sample
    damping:            λ, as a share of the mean of `squares`
    steps:              of conjugate gradients, in each of the two solutions
    """
    before, layout = near.kept, support.mask.layout
    weights = before.read()
    extra = max(damping, LEAST_DAMPING) * squares.mean().clamp_min(torch.finfo(torch.float64).tiny)
    diagonal = (squares + extra).unsqueeze(0)

    def solve(right: Tensor, stays: Tensor) -> Tensor:
        """The change of the weights that stay; the others' is zero."""
        return pcg(lambda rows: near.damped(rows, extra) * stays, (right * stays).unsqueeze(0), diagonal, steps,
                   TOLERANCE)[0][0]

    wanted = weights + solve(-gradient, torch.ones_like(weights))
    ranked = wanted * (diagonal[0] / diagonal.max()).sqrt()
    if not bool(ranked.isfinite().all()):
        return False
    support.prune(select(layout, before.spread(ranked, torch.float32), budget, 0).mask)
    stays = before.row({name: (~pruned).double() for name, pruned in support.pruned.items()})
    change = solve(-gradient - near.curvature(weights * (stays - 1)), stays)
    if not bool(change.isfinite().all()):
        return False
    now = Kept(support, list(support.weights))
    now.write(now.row(before.spread(weights + change, torch.float64)))
    return True
