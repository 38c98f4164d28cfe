"""`torch.compile`: of one masked network in a loop, and of `vmap`. Compiling is not timed."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from optprune_fast.bench.problem import Masks, Problem
from optprune_fast.bench.rival import Prepared

Tensors = dict[str, Tensor]


def declines_channels_last(problem: Problem) -> str | None:
    convolution = any(isinstance(layer, nn.Conv2d) for layer in problem.layers.values())
    return None if convolution and problem.inputs.dim() == 4 else "no 2-d convolution"


def prepare_loop(problem: Problem, masks: Masks, channels_last: bool = False, compiler: str = "inductor") -> Prepared:
    if channels_last:
        model = copy.deepcopy(problem.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = problem.inputs.contiguous(memory_format=torch.channels_last)
        problem = Problem(problem.name, model, inputs, problem.targets)
    weights = problem.weights

    @torch.compile(backend=compiler, dynamic=False)
    def loss(weights: Tensors, dense: Tensors) -> Tensor:
        return problem.loss({name: weight * dense[name] for name, weight in weights.items()})

    @torch.inference_mode()
    def fitness(masks: Masks) -> Tensor:
        dense = masks.dense
        return torch.stack([loss(weights, {name: bits[p] for name, bits in dense.items()}) for p in range(len(masks))])

    fitness(masks)
    return Prepared(fitness)


def prepare_vmap(problem: Problem, masks: Masks, compiler: str = "inductor") -> Prepared:

    @torch.compile(backend=compiler, dynamic=False)
    def losses(weights: Tensors, dense: Tensors) -> Tensor:
        out: Tensor = vmap(problem.loss)({name: weight * dense[name] for name, weight in weights.items()})
        return out

    @torch.inference_mode()
    def fitness(masks: Masks) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return losses(problem.weights, masks.dense)

    fitness(masks)
    return Prepared(fitness)
