"""The way of EvoTorch's supervised problems, in plain torch: one solution after another, written into the module."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from optprune_fast.bench.problem import Masks, Problem
from optprune_fast.bench.rival import Prepared
from optprune_fast.plan.model import logits


def prepare(problem: Problem, masks: Masks) -> Prepared:
    model = copy.deepcopy(problem.model).requires_grad_(False)
    parameters = dict(model.named_parameters())
    unpruned = {name: p.clone() for name, p in parameters.items()}

    @torch.inference_mode()
    def fitness(masks: Masks) -> Tensor:
        losses = []
        for p in range(len(masks)):
            solution = parameters_to_vector([value * masks.dense[name][p] if name in masks.dense else value
                                             for name, value in unpruned.items()])
            vector_to_parameters(solution, parameters.values())
            losses.append(F.cross_entropy(logits(model(problem.inputs)), problem.targets))
        return torch.stack(losses)

    return Prepared(fitness)
