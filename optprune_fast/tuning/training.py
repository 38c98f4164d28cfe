"""The training loop of a network whose pruned weights stay zero."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from tqdm import tqdm  # type: ignore[import-untyped]

from optprune_fast.engine.batches import Batch
from optprune_fast.runtime.errors import TuningWarning, message
from optprune_fast.tuning.loss import Loss
from optprune_fast.tuning.support import Support

MOMENTUM = 0.9
OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True)
class Settings:
    """How long and how fast; the names are those of `finetune`."""

    epochs: int
    lr: float
    batch_size: int
    seed: int
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    freeze_statistics: bool = False

    def check(self, where: str) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(message(where, "epochs and batch_size must be at least 1", epochs=self.epochs,
                                     batch_size=self.batch_size))
        if not 0 < self.lr < math.inf or not 0 <= self.weight_decay < math.inf:
            raise ValueError(message(where, "lr must be above 0 and weight_decay at least 0", lr=self.lr,
                                     weight_decay=self.weight_decay))
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(message(where, "unknown optimizer", f"one of {', '.join(OPTIMIZERS)}",
                                     optimizer=self.optimizer))

    def optimizer_of(self, model: nn.Module) -> torch.optim.Optimizer:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, self.lr, momentum=MOMENTUM, weight_decay=self.weight_decay)
        return torch.optim.AdamW(parameters, self.lr, weight_decay=self.weight_decay, fused=True)


def train(where: str, support: Support, loss: Loss, training: list[Batch], validation: list[Batch],
          settings: Settings, progress: bool | None, mask_at: Callable[[int, int], None] | None = None,
          judged_from: int = 0) -> None:
    """Train the copy of `support` in place; it ends in eval mode, in the state that validation found best.

    mask_at:      called with (step, steps) before each step: it may give `support` another mask
    judged_from:  the first epoch that competes; epoch 0 is the state before training. Of those before it the latest
                  counts as the best

    Ctrl-C ends it, and so does a loss that is no number, with a warning; the best so far stays.
    """
    model = support.model
    steps_of_epoch = sum(_steps(batch, settings.batch_size) for batch in training)
    steps = settings.epochs * steps_of_epoch
    order = torch.Generator().manual_seed(settings.seed)
    optimizer = settings.optimizer_of(model)
    best, best_state = math.inf, support.state()
    bar = tqdm(total=settings.epochs, desc=where, unit="epoch", disable=None if progress is None else not progress,
               leave=False)
    step = 0
    with torch.random.fork_rng(devices=[loss.device] if loss.device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        try:
            for epoch in range(settings.epochs + 1):
                for batch in _epoch(training, settings.batch_size, order) if epoch else ():
                    if mask_at is not None:
                        mask_at(step, steps)
                    _rate(optimizer, settings.lr * 0.5 * (1 + math.cos(math.pi * step / steps)))
                    value = loss(model, batch.to(loss.device))
                    if not math.isfinite(value.item()):
                        raise _NoNumber(f"the loss became {value.item()} in epoch {epoch}")
                    optimizer.zero_grad()
                    torch.autograd.backward(value)
                    support.clear_gradients()
                    optimizer.step()
                    support.clear_weights()
                    step += 1
                judged = loss.judge(model.eval(), validation)
                if epoch < judged_from:
                    best_state = support.state() if math.isfinite(judged) else best_state
                elif judged < best:
                    best, best_state = judged, support.state()
                _train_mode(model, settings.freeze_statistics)
                bar.update(bool(epoch))
                bar.set_postfix(validation=f"{judged:.4f}")
        except KeyboardInterrupt:
            pass
        except _NoNumber as problem:
            warnings.warn(f"{where}: {problem}; it stops there, with the best so far. A smaller lr= may help "
                          f"(lr={settings.lr})", TuningWarning, stacklevel=3)
        finally:
            bar.close()
    model.load_state_dict(best_state)
    model.zero_grad()
    model.eval()


class _NoNumber(Exception):
    """The loss is NaN or infinite."""


def _rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def _steps(batch: Batch, size: int) -> int:
    return max(1, batch.size // size)


def _epoch(batches: list[Batch], size: int, order: torch.Generator) -> Iterator[Batch]:
    """All samples in a random order. Those that do not fill a last batch are left out: batch normalisation cannot
    take one of one."""
    cut = [(batch, rows) for batch in batches for rows in
           torch.randperm(batch.size, generator=order)[: _steps(batch, size) * size].split(size)]
    for i in torch.randperm(len(cut), generator=order).tolist():
        batch, rows = cut[i]
        yield batch.pick(rows)


def _train_mode(model: nn.Module, freeze_statistics: bool) -> None:
    model.train()
    if freeze_statistics:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.eval()
