"""`gradual`: train while the sparsity rises, and go on at the budget."""

from __future__ import annotations

import math

from torch import nn

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


def gradual(model: nn.Module, data: Data, sparsity: float = 0.95, epochs: int = 10, *, ramp: float = 0.5,
            strategy: str | Strategy | None = None, evaluations: int = 2000, lr: float = 3e-3, batch_size: int = 128,
            seed: int = 0, validation: Data | None = None, objective: str | UserObjective = "cross_entropy",
            optimizer: str = "adamw", weight_decay: float = 0.0, freeze_statistics: bool = False,
            layout: MaskLayout | None = None, progress: bool | None = None) -> tuple[nn.Module, PackedMasks]:
    """Prune a copy of a model step by step while it trains: (the copy in eval mode, its mask).

    model:        any `nn.Module`; it is never changed
    data:         as `Evaluator` takes them
    sparsity:     at the end; exactly `k = n - round(sparsity * n)` weights are kept
    epochs:       in all: while the sparsity rises, and of fine-tuning after that
    ramp:         fraction of the epochs, above 0 and below 1, in which it rises: by the cubic schedule [1],
                  s(t) = sparsity * (1 - (1 - t)^3), to weights that are large at that moment
    strategy:     improve the mask at a few checkpoints by a search of `prune`; None leaves magnitude's
    evaluations:  of each such search
    layout:       which weights are prunable; `MaskLayout.of(model)` if not given

    The other arguments are those of `finetune`. The best epoch is chosen among those that end at the budget. Ctrl-C
    and a loss that is no number end it as in `finetune`; before the budget is reached, the largest weights of that
    moment are kept.

    [1] Zhu, Gupta: To prune, or not to prune, ICLR 2018 workshop (arXiv 1710.01878, 2017).

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
    if strategy is not None:
        strategy_named(strategy)
    layout = MaskLayout.of(model) if layout is None else layout
    layout.budget(sparsity)
    support = Support("gradual", model, PackedMasks.full(layout))
    training, held_out = parts(data, validation, seed)
    loss = Loss("gradual", model, [*training, *held_out], objective)
    way = _Way(support, training, held_out, sparsity, ramp, strategy, evaluations, objective, seed)
    # An epoch competes where all of it went by at the budget, or at least its end.
    train("gradual", support, loss, training, held_out, settings, progress, way, judged_from=math.ceil(ramp * epochs))
    if int(support.mask.count()) != layout.budget(sparsity):
        way.prune_to(sparsity)
    return support.model, support.mask


class _Way:
    """Which mask holds at which step."""

    def __init__(self, support: Support, training: list[Batch], held_out: list[Batch], sparsity: float, ramp: float,
                 strategy: str | Strategy | None, evaluations: int, objective: str | UserObjective, seed: int) -> None:
        self.support, self.training, self.held_out = support, training, held_out
        self.sparsity, self.ramp = sparsity, ramp
        self.strategy, self.evaluations, self.objective, self.seed = strategy, evaluations, objective, seed
        self.stage = 0

    def __call__(self, step: int, steps: int) -> None:
        # The last stage is reached before the last step of the ramp, so that an epoch that ends there ends at it.
        stage = min(STAGES, math.floor(STAGES * (step + 1) / max(1, math.floor(self.ramp * steps))))
        if stage == self.stage:
            return
        self.stage = stage
        sparsity = self.sparsity * (1 - (1 - stage / STAGES) ** 3)
        self.prune_to(sparsity)
        if self.strategy is not None and stage % (STAGES // SEARCHES) == 0:
            self._search(sparsity)

    def prune_to(self, sparsity: float) -> None:
        """Keep the largest of the weights."""
        layout = self.support.mask.layout
        self.support.prune(select(layout, layout.weights_of(self.support.model), layout.budget(sparsity), 0).mask)

    def _search(self, sparsity: float) -> None:
        assert self.strategy is not None
        result = prune(self.support.model, self.training, sparsity, self.strategy, validation=self.held_out,
                       evaluations=self.evaluations, seed=self.seed, objective=self.objective,
                       layout=self.support.mask.layout, progress=False)
        self.support.prune(result.mask)
