"""The losses of M swaps of one parent mask, `Evaluator.moves`: networks, parents, and swaps nobody has seen before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import optprune_fast as opf
from optprune_fast.bench import Masks, Problem
from optprune_fast.bench.oracle import Oracle, agree
from optprune_fast.masks.operators import swap
from optprune_fast.models import MLP, LeNet5

SPARSITY = 0.95


@dataclass(frozen=True)
class Network:
    """make; shape of one sample; N samples; M swaps a call; small: a version of it for tests."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    small: Callable[[], nn.Module]
    small_shape: tuple[int, ...]
    N: int
    M: int


NETWORKS = {
    "mlp": Network(lambda: MLP([784, 40, 20, 10]), (784,), lambda: MLP([30, 12, 10]), (30,), N=5000, M=1024),
    "lenet5": Network(lambda: LeNet5(3, 32), (3, 32, 32), lambda: LeNet5(1, 28), (1, 28, 28), N=256, M=256),
}


def problem(name: str, samples: int | None = None, small: bool = False) -> Problem:
    """A network as torch draws it, on random samples. The largest weights survive, so the signal does too."""
    network = NETWORKS[name]
    shape = network.small_shape if small else network.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = (network.small if small else network.make)().eval().requires_grad_(False)
        size = network.N if samples is None else samples
        return Problem(name, model, torch.randn(size, *shape), torch.randint(10, (size,)))


def parent_of(task: Problem) -> opf.PackedMasks:
    """The magnitude mask at 95 %."""
    return opf.magnitude(task.model, SPARSITY).mask


def fresh_swaps(parent: opf.PackedMasks, moves: int, number: int) -> Tensor:
    """int64 [M, 2]: a kept weight that goes and a pruned one that comes, evenly drawn; each `number` gives others."""
    random = torch.Generator().manual_seed(number)
    kept, pruned = parent.indices(), (~parent).indices()
    drop = kept[torch.randint(len(kept), (moves,), generator=random)]
    add = pruned[torch.randint(len(pruned), (moves,), generator=random)]
    return torch.stack([drop, add], dim=1)


def check(task: Problem, fitness: Tensor, parent: opf.PackedMasks, swaps: Tensor, strangers: opf.Evaluator) -> float:
    """Raise `RivalError` unless losses are the neighbours', and a few those of float64; the largest error."""
    masks = swap(parent, swaps)
    oracle = Oracle(task, Masks(masks), candidates=5)
    error = oracle.check("moves", fitness)
    agree("moves", fitness, "the neighbours as a population", strangers(masks), oracle.limit)
    return error
