"""`torch.vmap` over stacked masked weights: all candidates at once, or in chunks."""

from __future__ import annotations

import time

import torch
from torch import Tensor, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from optprune_fast.bench.problem import Masks, Problem
from optprune_fast.bench.rival import Fitness, Prepared

CHUNKS = (4, 8, 16)


def prepare(problem: Problem, masks: Masks) -> Prepared:
    return Prepared(_fitness(problem, None))


def prepare_chunked(problem: Problem, masks: Masks) -> Prepared:
    """The best of a few sizes; that it had to try them is not held against it."""
    seconds = {chunk: _seconds(_fitness(problem, chunk), masks) for chunk in CHUNKS}
    best = min(seconds, key=lambda chunk: seconds[chunk])
    return Prepared(_fitness(problem, best), f"chunks of {best}")


def _fitness(problem: Problem, chunk: int | None) -> Fitness:
    weights = problem.weights

    def masked_loss(dense: dict[str, Tensor]) -> Tensor:
        return problem.loss({name: weight * dense[name] for name, weight in weights.items()})

    losses = vmap(masked_loss, chunk_size=chunk)  # masked inside, so that a chunk's weights are still in the cache

    @torch.inference_mode()
    def fitness(masks: Masks) -> Tensor:
        # The batching rule of the fused CPU attention is a slow loop, the plain formula has a fast one.
        with sdpa_kernel(SDPBackend.MATH):
            out: Tensor = losses(masks.dense)
        return out

    return fitness


def _seconds(fitness: Fitness, masks: Masks) -> float:
    fitness(masks)
    start = time.perf_counter()
    if fitness(masks).is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start
