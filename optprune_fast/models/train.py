"""A short training loop, the same for every network here: AdamW, one rise and fall of the learning rate."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

from optprune_fast.runtime.errors import message

Model = TypeVar("Model", bound=nn.Module)

WEIGHT_DECAY = 1e-2
EVALUATION_BATCH = 1000


def train(
    model: Model, data: tuple[Tensor, Tensor], *, epochs: int, lr: float = 1e-2, batch_size: int = 64, seed: int = 0
) -> Model:
    """Train for classification; return the same model, in eval mode.

    data:  (inputs [N, ...], targets int64 [N]); batches go to the device of the model
    lr:    the highest rate, reached after a third of the steps
    seed:  fixes the order of the samples and any dropout; the global generator is left as it was.
           On one CPU with one number of threads the same seed gives the same weights.

    Every epoch drops the samples that do not fill a last batch: a batch of one would break batch normalisation.
    """
    inputs, targets = _checked("train", data)
    if epochs < 1 or batch_size < 1:
        rule = "epochs and batch_size must be at least 1"
        raise ValueError(message("train", rule, epochs=epochs, batch_size=batch_size))
    batch_size = min(batch_size, len(inputs))
    steps = len(inputs) // batch_size
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * steps)
    order = torch.Generator().manual_seed(seed)
    model.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        progress = tqdm(range(epochs), desc=f"train {type(model).__name__}", unit="epoch", disable=None, leave=False)
        for _ in progress:
            rows = torch.randperm(len(inputs), generator=order)[: steps * batch_size].view(steps, batch_size)
            for batch in rows.to(inputs.device):
                loss = F.cross_entropy(model(inputs[batch].to(device)), targets[batch].to(device))
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
            progress.set_postfix(loss=f"{loss.item():.3f}")
    return model.eval()


def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """The fraction of samples whose largest output is their target, with the model in eval mode meanwhile.

    >>> accuracy(nn.Identity(), (torch.eye(4), torch.tensor([0, 1, 2, 0])))
    0.75
    """
    inputs, targets = _checked("accuracy", data)
    parameter = next(model.parameters(), None)
    device = inputs.device if parameter is None else parameter.device
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            correct = 0
            for start in range(0, len(inputs), EVALUATION_BATCH):
                rows = slice(start, start + EVALUATION_BATCH)
                outputs = model(inputs[rows].to(device))
                correct += int((outputs.argmax(1) == targets[rows].to(device)).sum())
    finally:
        for module, training in modes:
            module.training = training
    return correct / len(targets)


def _checked(where: str, data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    inputs, targets = data
    if len(inputs) != len(targets) or len(inputs) == 0:
        rule = "data must be (inputs [N, ...], targets [N]) with N at least 1"
        raise ValueError(message(where, rule, inputs=inputs, targets=targets))
    return inputs, targets
