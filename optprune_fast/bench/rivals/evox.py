"""The way of EvoX's supervised problems, in plain torch: a population matrix [P, parameters], cut into the module's
parameters, and `vmap` over all of them, biases included."""

from __future__ import annotations

import torch
from torch import Tensor, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from optprune_fast.bench.problem import Masks, Problem
from optprune_fast.bench.rival import Prepared


def prepare(problem: Problem, masks: Masks) -> Prepared:
    parameters = {name: p.detach() for name, p in problem.model.named_parameters()}
    sizes = [p.numel() for p in parameters.values()]
    losses = vmap(problem.loss)

    @torch.inference_mode()
    def fitness(masks: Masks) -> Tensor:
        population = torch.empty(len(masks), sum(sizes), dtype=next(iter(parameters.values())).dtype)
        columns = population.split(sizes, dim=1)
        for (name, p), column in zip(parameters.items(), columns, strict=True):
            if name in masks.dense:
                torch.mul(p.flatten(), masks.dense[name].flatten(1), out=column)
            else:
                column.copy_(p.flatten().expand_as(column))
        with sdpa_kernel(SDPBackend.MATH):  # as for vmap: the plain formula is the fast one there
            out: Tensor = losses({name: column.unflatten(1, p.shape) for (name, p), column
                                  in zip(parameters.items(), columns, strict=True)})
        return out

    return Prepared(fitness)
