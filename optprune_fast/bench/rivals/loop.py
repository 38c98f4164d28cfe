"""The plain way: `weight * mask`, one forward pass a candidate."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.bench.problem import Masks, Problem
from optprune_fast.bench.rival import Prepared


def prepare(problem: Problem, masks: Masks) -> Prepared:
    weights = problem.weights

    @torch.inference_mode()
    def fitness(masks: Masks) -> Tensor:
        dense = masks.dense
        return torch.stack([problem.loss({name: weight * dense[name][p] for name, weight in weights.items()})
                            for p in range(len(masks))])

    return Prepared(fitness)
