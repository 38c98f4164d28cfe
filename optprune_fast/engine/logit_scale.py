"""The scale at which logits are as sure as they are right."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from optprune_fast.runtime.errors import message

HALVINGS = 30
JUDGED = 8192  # outputs, at least, on which the best scale is looked for
Part = tuple[Tensor, Tensor]


def best_scale(parts: Sequence[Part], most: float) -> float:
    """The number from 1 to `most` that logits have to be multiplied with for the least cross-entropy.

    parts: (logits [B, C, …], classes [B, …]) each, the mean over what follows the samples taken first

    The loss is convex in it, so its slope tells on which side to look.

    >>> import torch
    >>> best_scale([(torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 0, 1]))], most=10.0)
    1.0
    """
    rows = [(outputs.double().nan_to_num().movedim(1, -1).flatten(0, -2), targets.long().flatten(),
             targets.shape[0] / max(1, targets.numel())) for outputs, targets in parts]

    def slope(scale: float) -> float:
        total = 0.0
        for logits, classes, weight in rows:
            right = logits.gather(1, classes.unsqueeze(1)).sum()
            total += weight * float(((scale * logits).softmax(1) * logits).sum() - right)
        return total

    low, high = 1.0, most
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return low


def check_logit_scale(where: str, logit_scale: float, objective: object) -> None:
    """Raise `ValueError` for a scale that is no positive number, or of logits that the objective does not know."""
    if not 0 < logit_scale < float("inf"):
        raise ValueError(message(where, "logit_scale must be above 0", logit_scale=logit_scale))
    if logit_scale != 1 and objective != "cross_entropy":
        raise ValueError(message(where, "logit_scale is for cross_entropy, of logits", "leave it at 1",
                                 logit_scale=logit_scale, objective=objective))
