"""A generation of a population search on a device: the bits of the CPU, and nothing waits for the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, crossover, mutate, random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.choose_bits import operation
from optprune_fast.testing.variants import environment

_LAYOUT = MaskLayout.from_shapes({"first": (100, 784), "second": (10, 100)})
_CANDIDATES = 16


def generation(seeds: Tensor, budget: int) -> tuple[PackedMasks, Tensor]:
    """Masks from random ones by crossover and mutation, on the device of `seeds`, and the weights that each keeps."""
    parents = random_masks(_LAYOUT, budget, seeds)
    first, second = parents[torch.arange(len(parents))], parents[[0] * len(parents)]
    children = crossover(first, second, seeds, check=False)
    masks = mutate(children, torch.arange(len(parents)), seeds, core=parents[0] & parents[1])
    return masks, masks.count()


def generation_faults(device: str, backends: Sequence[str]) -> list[str]:
    """What is wrong with a generation on `device`, on each of `backends` that is able."""
    faults = []
    seeds = candidate_seeds(0, 0, _CANDIDATES)
    for backend in (b for b in backends if b in operation.backends and operation.missing(b) is None):
        with environment("OPTPRUNE_BACKEND", backend):
            for budget in (1, _LAYOUT.n // 50, _LAYOUT.n - 1):
                there = seeds.to(device)
                generation(there, budget)  # what is loaded or compiled on first need may well wait
                try:
                    with _no_waits(device):
                        masks, counts = generation(there, budget)
                except RuntimeError as wait:
                    faults.append(f"masks {backend}, {budget} weights: {wait}")
                    continue
                if counts.tolist() != [budget] * _CANDIDATES:
                    faults.append(f"masks {backend}, {budget} weights: some keep {counts.unique().tolist()[:8]}")
                elif masks.to("cpu") != _on_the_cpu(seeds, budget):
                    faults.append(f"masks {backend}, {budget} weights: not those of the CPU")
    return faults


def _on_the_cpu(seeds: Tensor, budget: int) -> PackedMasks:
    with environment("OPTPRUNE_BACKEND", ""):
        return generation(seeds, budget)[0]


@contextmanager
def _no_waits(device: str) -> Iterator[None]:
    """A RuntimeError where torch would make the host wait for a GPU."""
    if torch.device(device).type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
