"""`gradual`: train while the sparsity rises, and go on at the budget."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from optprune_fast.engine.batches import Batch, Data
from optprune_fast.engine.objective import UserObjective
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.magnitude import select
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.recipe.prune import prune
from optprune_fast.runtime.errors import message
from optprune_fast.search import strategy_named
from optprune_fast.search.strategy import Strategy
from optprune_fast.tuning.finetune import parts
from optprune_fast.tuning.loss import Loss
from optprune_fast.tuning.support import Support
from optprune_fast.tuning.training import Settings, train

STAGES = 64  # masks on the way
SEARCHES = 4  # of the stages, where a strategy is given: the last one and those a quarter of the way apart
RANKINGS = ("sensitivity", "magnitude")
MEMORY = 0.99  # of the running mean of squared slopes, a step
FLAT = 1e-8    # of the highest mean: where the loss looks flatter than that, size decides


def gradual(model: nn.Module, data: Data, sparsity: float = 0.95, epochs: int = 10, *, ramp: float = 0.5,
            strategy: str | Strategy | None = None, evaluations: int = 2000, lr: float = 3e-3, batch_size: int = 128,
            seed: int = 0, validation: Data | None = None, objective: str | UserObjective = "cross_entropy",
            optimizer: str = "adamw", weight_decay: float = 0.0, freeze_statistics: bool = False,
            ranking: str = "sensitivity", layout: MaskLayout | None = None,
            progress: bool | None = None) -> tuple[nn.Module, PackedMasks]:
    """Prune a copy of a model step by step while it trains: (the copy in eval mode, its mask).

    model:        any `nn.Module`; it is never changed
    data:         as `Evaluator` takes them
    sparsity:     at the end; exactly `k = n - round(sparsity * n)` weights are kept
    epochs:       in all: while the sparsity rises, and of fine-tuning after that
    ramp:         fraction of the epochs, above 0 and below 1, in which it rises: by the cubic schedule [1],
                  s(t) = sparsity * (1 - (1 - t)^3), to the weights that rank highest at that moment
    strategy:     improve the mask at a few checkpoints by a search of `prune`; None leaves it as ranked
    evaluations:  of each such search
    ranking:      "sensitivity": by |w| F^(1/4), F the running mean of the squared slope of the loss of a batch: half
                  way from size to what a weight's loss costs, w² F / 2 [2]. "magnitude": by |w|
    layout:       which weights are prunable; `MaskLayout.of(model)` if not given

    The other arguments are those of `finetune`. The best epoch is chosen among those that end at the budget. Ctrl-C
    and a loss that is no number end it as in `finetune`; before the budget is reached, the weights that rank highest at
    that moment are kept.

    [1] Zhu, Gupta: To prune, or not to prune, ICLR 2018 workshop (arXiv 1710.01878, 2017).
    [2] LeCun, Denker, Solla: Optimal brain damage, NIPS 1989, with the empirical Fisher information as the curvature.

    >>> import torch
    >>> torch.manual_seed(0); model = nn.Linear(16, 4)  # doctest: +ELLIPSIS
    <torch...>
    >>> x = torch.randn(200, 16)
    >>> pruned, mask = gradual(model, (x, model(x).argmax(1)), sparsity=0.5, epochs=2)
    >>> int(mask.count()), int(pruned.weight.count_nonzero())
    (32, 32)
    """
    settings = Settings(epochs, lr, batch_size, seed, optimizer, weight_decay, freeze_statistics)
    settings.check("gradual")
    if not 0 < ramp < 1:
        raise ValueError(message("gradual", "ramp must lie above 0 and below 1: the rest of the epochs is fine-tuning",
                                 ramp=ramp))
    if ranking not in RANKINGS:
        raise ValueError(message("gradual", f"ranking must be one of {', '.join(RANKINGS)}", ranking=ranking))
    if strategy is not None:
        strategy_named(strategy)
    layout = MaskLayout.of(model) if layout is None else layout
    layout.budget(sparsity)
    support = Support("gradual", model, PackedMasks.full(layout))
    training, held_out = parts(data, validation, seed)
    loss = Loss("gradual", model, [*training, *held_out], objective)
    slopes = _Slopes(support) if ranking == "sensitivity" else None
    way = _Way(support, slopes, training, held_out, sparsity, ramp, strategy, evaluations, objective, seed)
    # An epoch competes where all of it went by at the budget, or at least its end.
    train("gradual", support, loss, training, held_out, settings, progress, way, judged_from=math.ceil(ramp * epochs))
    if int(support.mask.count()) != layout.budget(sparsity):
        way.prune_to(sparsity)
    return support.model, support.mask


class _Slopes:
    """How steep the loss of a batch has been along each weight of late."""

    def __init__(self, support: Support) -> None:
        self.support = support
        self.squares: dict[str, Tensor] = {}

    def note(self) -> None:
        """Add the gradients of the last step, of which those of pruned weights are zero."""
        for name, weight in self.support.weights.items():
            square = None if weight.grad is None else weight.grad.float().square()
            if square is not None and bool(square.isfinite().all()):
                self.squares[name] = self.squares.get(name, square).lerp(square, 1 - MEMORY)

    def ranked(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """|w| F^(1/4); a weight that is not trained, or not yet, has the mean F of the others."""
        if not self.squares:
            return weights
        every = torch.cat([square.flatten() for square in self.squares.values()])
        floor, mean = FLAT * every.max(), every.mean()
        return {name: weight.float() * self.squares.get(name, mean).maximum(floor).pow(0.25)
                for name, weight in weights.items()}


class _Way:
    """Which mask holds at which step."""

    def __init__(self, support: Support, slopes: _Slopes | None, training: list[Batch], held_out: list[Batch],
                 sparsity: float, ramp: float, strategy: str | Strategy | None, evaluations: int,
                 objective: str | UserObjective, seed: int) -> None:
        self.support, self.slopes, self.training, self.held_out = support, slopes, training, held_out
        self.sparsity, self.ramp = sparsity, ramp
        self.strategy, self.evaluations, self.objective, self.seed = strategy, evaluations, objective, seed
        self.stage = 0

    def __call__(self, step: int, steps: int) -> None:
        if self.stage == STAGES:
            return
        if self.slopes is not None:
            self.slopes.note()
        # The last stage is reached before the last step of the ramp, so that an epoch that ends there ends at it.
        stage = min(STAGES, math.floor(STAGES * (step + 1) / max(1, math.floor(self.ramp * steps))))
        if stage == self.stage or not self.support.finite():  # the loss is about to say what is not
            return
        self.stage = stage
        sparsity = self.sparsity * (1 - (1 - stage / STAGES) ** 3)
        self.prune_to(sparsity)
        if self.strategy is not None and stage % (STAGES // SEARCHES) == 0:
            self._search(sparsity)

    def prune_to(self, sparsity: float) -> None:
        """Keep the weights that rank highest."""
        layout = self.support.mask.layout
        weights = layout.weights_of(self.support.model)
        ranked = weights if self.slopes is None else self.slopes.ranked(weights)
        self.support.prune(select(layout, ranked, layout.budget(sparsity), 0).mask)

    def _search(self, sparsity: float) -> None:
        assert self.strategy is not None
        result = prune(self.support.model, self.training, sparsity, self.strategy, validation=self.held_out,
                       evaluations=self.evaluations, seed=self.seed, objective=self.objective,
                       layout=self.support.mask.layout, progress=False)
        self.support.prune(result.mask)
