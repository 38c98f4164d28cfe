"""How large the logits of a search are made: pruning shrinks them, and a search must not spend weights on that.

Cross-entropy asks two things of a network: to be right, and to be as sure as the data allow. A pruned one has smaller
logits, since sums have fewer terms. At their own scale a search buys sureness with weights that would have served
accuracy: on a network of 784-40-20-10 at 98 %, the best mask by the loss as it is has its least loss when its logits
are doubled. Which class is largest does not depend on a scale, so the search gets one that leaves room (measured:
docs/RESULTS.md, the scale of the logits), as temperature scaling gives a trained network one [1].

[1] Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks, ICML 2017.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.packed import PackedMasks

SAMPLES = 2048
MOST = 8.0  # beyond it, nothing was won, and the logits that come out become ever smaller


def logit_scale(evaluator: Evaluator, magnitude: PackedMasks) -> float:
    """The square of how many times magnitude pruning shrinks what tells one sample from another, between 1 and `MOST`,
    to two digits: backends round differently, and a seed must give one mask on all of them."""
    some = evaluator.subset(torch.arange(min(SAMPLES, evaluator.samples))) if evaluator.batches.held else evaluator
    full = PackedMasks.full(evaluator.layout, magnitude.device)
    dense, pruned = (_spread(some.outputs(mask)[0]) for mask in (full, magnitude))
    if not (dense > 0 and math.isfinite(dense)):
        return 1.0
    scale = min(MOST, max(1.0, (dense / pruned) ** 2)) if pruned > 0 else MOST
    return float(f"{scale:.2g}") if math.isfinite(scale) else 1.0


def _spread(outputs: Tensor) -> float:
    """The root mean square of logits [B, C, …] about their mean over classes, and over samples."""
    about = outputs.double() - outputs.double().mean(1, keepdim=True)
    return float((about - about.mean(0)).square().mean().sqrt())
