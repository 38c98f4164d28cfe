"""`prune_and_refit`: few samples, few gradients: prune step by step, and let the weights that stay make up for it."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

from optprune_fast.engine.batches import Data
from optprune_fast.engine.forward import MaskedForward
from optprune_fast.engine.gradients import gradients
from optprune_fast.engine.objective import UserObjective
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.magnitude import select
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import TuningWarning, message
from optprune_fast.tuning.finetune import parts
from optprune_fast.tuning.gauss_newton import refit_gauss_newton
from optprune_fast.tuning.jitter import Jittered
from optprune_fast.tuning.kept import Kept
from optprune_fast.tuning.loss import Loss
from optprune_fast.tuning.prune_step import prune_step
from optprune_fast.tuning.quadratic import Quadratic
from optprune_fast.tuning.refit import check, some
from optprune_fast.tuning.support import Support

FIRST = 0.8     # share of the sparsity from which the steps start: the first weights cost nothing
MEMORY = 64 << 20  # bytes of activations that a pass for squared gradients may take


def prune_and_refit(model: nn.Module, data: Data, sparsity: float = 0.9, *, samples: int = 16_000, refreshes: int = 15,
                    ramp: float = 2 / 3, steps: int = 12, damping: float = 0.1, noise: float = 0.3,
                    distill: float | None = None, seed: int = 0, validation: Data | None = None,
                    objective: str | UserObjective = "cross_entropy", layout: MaskLayout | None = None,
                    progress: bool | None = None) -> tuple[nn.Module, PackedMasks]:
    """Prune a copy of a model in second-order steps, without training: (the copy in eval mode, its mask).

    model:       any `nn.Module`; it is never changed
    data:        as `Evaluator` takes them
    sparsity:    at the end; exactly `k = n - round(sparsity * n)` weights are kept
    samples:     of `data` at most, a seeded choice
    refreshes:   outer steps, each with a gradient of its own
    ramp:        share of them, above 0 and at most 1, in which weights are pruned [1]; the rest refits as `refit` does
    steps:       of conjugate gradients in each solution; more fit the samples better, and other data worse
    damping:     pulls towards the weights as they are, as a share of the mean curvature; adapted while it refits
    noise:       on the inputs, new in each outer step: standard deviation, as a share of the inputs' own
    distill:     share of the target that is the unpruned network's own answer; None: 0.5 with cross-entropy, else 0
    validation:  data to select the best step by; None holds out a seeded 10 % of `data`
    objective:   as `finetune` takes it, one number a sample
    layout:      which weights are prunable; `MaskLayout.of(model)` if not given

    Only prunable weights change. Ctrl-C ends it with the best so far; while it prunes, with the weights as they then
    are, the smallest pruned down to the budget. So does what is not finite, with a `TuningWarning`. Raises `ValueError`
    for wrong arguments before any work.

    [1] In second-order steps as in `tuning/prune_step.py`, by the cubic schedule of Zhu, Gupta: To prune, or not to
    prune, ICLR 2018 workshop (arXiv 1710.01878, 2017), from 0.8 of the sparsity on.

    >>> import torch
    >>> torch.manual_seed(0); model = nn.Linear(16, 4)  # doctest: +ELLIPSIS
    <torch...>
    >>> x = torch.randn(200, 16)
    >>> pruned, mask = prune_and_refit(model, (x, model(x).argmax(1)), sparsity=0.5, refreshes=3)
    >>> int(mask.count()), int(pruned.weight.count_nonzero())
    (32, 32)
    """
    where = "prune_and_refit"
    check(where, samples=samples, refreshes=refreshes, steps=steps, damping=damping, noise=noise, distill=distill)
    if damping is None:
        raise ValueError(message(where, "damping must be a number", "0.1 is the default", damping=damping))
    if not 0 < ramp <= 1:
        raise ValueError(message(where, "ramp must lie above 0 and at most at 1: the rest of the steps refits",
                                 ramp=ramp))
    layout = MaskLayout.of(model) if layout is None else layout
    budget = layout.budget(sparsity)
    support = Support(where, model, PackedMasks.full(layout))
    support.model.eval()
    batches, selection = parts(data, validation, seed)
    batches = some(batches, samples, seed)
    distill = 0.5 * (objective == "cross_entropy") if distill is None else distill
    judge = Loss(where, model, [*batches, *selection], objective)
    if judge.objective.whole is not None:
        raise ValueError(message(where, "the objective must give one number a sample", "a callable that returns [B]",
                                 objective=judge.objective.name))
    loss = Loss(where, model, batches, objective, distill)
    jittered = Jittered(batches, loss.device, noise, seed)
    stages = min(refreshes, max(1, round(ramp * refreshes)))
    dense, full = MaskedForward(model, layout, "torch"), PackedMasks.full(layout, loss.device)
    dense.choose_way(PackedMasks.cat([full, full]), batches[0].pick(slice(0, 2)).to(loss.device))
    if not _Way(support, loss, jittered, dense, damping, steps, seed).go(
            [layout.budget(sparsity * _share(stage / stages)) for stage in range(1, stages + 1)], progress):
        return support.model, support.mask
    assert int(support.mask.count()) == budget
    refit_gauss_newton(support, loss, jittered, lambda: judge.judge(support.model, selection), list(support.weights),
                       refreshes - stages, damping, steps, progress, where)
    return support.model, support.mask


def _share(done: float) -> float:
    """Of the sparsity, when this share of the way is behind."""
    return 1.0 if done >= 1 else FIRST + (1 - FIRST) * (1 - (1 - done) ** 3)


class _Way:
    """From the unpruned network to the budget."""

    def __init__(self, support: Support, loss: Loss, samples: Jittered, dense: MaskedForward, damping: float,
                 steps: int, seed: int) -> None:
        self.support, self.loss, self.samples, self.dense = support, loss, samples, dense
        self.damping, self.steps, self.made = damping, steps, torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def go(self, budgets: list[int], progress: bool | None) -> bool:
        """Prune to one budget after the other; False where the last is reached, but something stopped it before."""
        try:
            for budget in tqdm(budgets, "prune", leave=False, disable=None if progress is None else not progress):
                if not self._step(budget):
                    warnings.warn("prune_and_refit: a gradient or step is not finite; it stops there, and prunes by "
                                  "size", TuningWarning, stacklevel=4)
                    break
            else:
                return True
        except KeyboardInterrupt:
            pass
        layout = self.support.mask.layout
        self.support.prune(select(layout, layout.weights_of(self.support.model), budgets[-1], 0).mask)
        return False

    def _step(self, budget: int) -> bool:
        support, batches = self.support, self.samples.fresh()
        weights = {name: weight.detach().clone() for name, weight in support.weights.items()}
        kept = Kept(support, list(weights))
        found = gradients(self.dense, self.loss.objective, batches, weights, MEMORY)
        gradient, squares = (kept.row({name: pair[which] for name, pair in found.items()}) for which in (0, 1))
        if not bool(gradient.isfinite().all()):
            return False
        near = Quadratic(kept, self.loss, batches)
        if not self.loss.objective.needs_targets and self.loss.objective.needs_dense:
            squares = self._level(near, squares)
        return prune_step(support, near, gradient, squares, budget, self.damping, self.steps)

    def _level(self, near: Quadratic, squares: Tensor) -> Tensor:
        """The mean of the curvature's diagonal for all weights alike (Hutchinson 1990), so that size decides: where the
        network is compared with itself, slopes are zero or what rounding leaves of it, and say nothing of a weight."""
        signs = torch.randint(2, squares.shape, generator=self.made).to(squares).mul(2).sub(1)
        return torch.full_like(squares, float(signs @ near.curvature(signs)) / max(1, len(signs)))
