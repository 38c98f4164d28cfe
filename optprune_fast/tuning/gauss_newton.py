"""Damped Gauss-Newton steps on the loss itself, over the kept weights.

Each outer step solves the loss near the point, to second order (`quadratic.py`), for a change of the weights with
damping λ by conjugate gradients, takes it only where the loss falls, and adapts λ to how well the fall was foretold
[1, 2]. With noise on the samples, new in each step, steps end around a minimum; their mean lies nearer to it [3], and
is judged beside each of them.

[1] Marquardt: An algorithm for least-squares estimation of nonlinear parameters, SIAM J. Appl. Math. 11 (1963).
[2] Martens: Deep learning via Hessian-free optimization, ICML 2010.
[3] Polyak, Juditsky: Acceleration of stochastic approximation by averaging, SIAM J. Control Optim. 30 (1992).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from optprune_fast.runtime.errors import TuningWarning
from optprune_fast.tuning.jitter import Jittered
from optprune_fast.tuning.kept import Kept
from optprune_fast.tuning.loss import Loss
from optprune_fast.tuning.pcg import pcg
from optprune_fast.tuning.quadratic import Quadratic
from optprune_fast.tuning.support import Support

TOLERANCE = 1e-6
LEAST_DAMPING = 1e-8  # what nothing depends on, such as a weight of an input that is always 0, has no curvature
TRIES = 4  # dampings of one outer step
GROW, SHRINK = 4.0, 0.25
FORETOLD_WELL, FORETOLD_BADLY = 0.75, 0.25


@torch.no_grad()
def refit_gauss_newton(support: Support, loss: Loss, samples: Jittered, judge: Callable[[], float], names: list[str],
                       refreshes: int, damping: float, steps: int, progress: bool | None = None,
                       where: str = "refit") -> None:
    """Change the parameters `names` of `support`, in place; the state that `judge` found best stays.

    judge:      gives a number for the model of `support` as it is, lower for better; it sees each state and their mean
    refreshes:  outer steps at most; each takes the gradient anew
    damping:    λ at first, as a share of the mean of the curvature's diagonal
    steps:      of conjugate gradients in an outer step
    """
    kept = Kept(support, names)
    best, best_at = judge(), kept.read()
    mean, states = torch.zeros_like(best_at), 0
    try:
        for _ in tqdm(range(refreshes), "refit", leave=False, disable=None if progress is None else not progress):
            at, batches = kept.read(), samples.fresh()
            value, near = loss.judge(support.model, batches), Quadratic(kept, loss, batches)
            gradient, square = near.slope()
            if not bool(gradient.isfinite().all()):
                warnings.warn(f"{where}: the gradient is not finite; it stops there, with the best so far",
                              TuningWarning, stacklevel=4)
                break
            scale = square.mean().clamp_min(torch.finfo(torch.float64).tiny)
            for _ in range(TRIES):
                extra = max(damping, LEAST_DAMPING) * scale
                step, applied = pcg(partial(near.damped, extra=extra), -gradient.unsqueeze(0),
                                    (square + extra).unsqueeze(0), steps, TOLERANCE)
                foretold = float(-(gradient @ step[0]) - 0.5 * (step[0] @ applied[0]))
                kept.write(at + step[0])
                new = loss.judge(support.model, batches)
                share = (value - new) / foretold if foretold > 0 else -math.inf
                if share > FORETOLD_WELL:
                    damping *= SHRINK
                elif not share > FORETOLD_BADLY:
                    damping *= GROW
                if new < value:
                    break
            if not new < value:
                break  # at a minimum, as far as these numbers show
            now, states = kept.read(), states + 1
            mean = mean.lerp(now, 1 / states)
            for state in (now, mean):
                kept.write(state)
                judged = judge()
                if judged < best:
                    best, best_at = judged, state
            kept.write(now)
    except KeyboardInterrupt:
        pass
    kept.write(best_at)
