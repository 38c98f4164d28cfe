"""Latent scores: a float for each open weight; the candidate keeps the weights with the highest scores."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import message
from optprune_fast.search.problem import Problem
from optprune_fast.search.strategy import Strategy


def open_weights(problem: Problem) -> Tensor:
    """int64 [m]: flat indices of the weights to choose from, ascending; score `i` is that of the `i`-th."""
    return problem.open.indices()


def chosen(scores: Tensor, choices: int) -> Tensor:
    """The `choices` highest of each row; equal ones by index, lowest first.

    scores:   float [P, m], without NaN
    choices:  how many to choose, in [0, m]
    returns:  bool [P, m]

    >>> chosen(torch.tensor([[1.0, 3.0, 1.0, 1.0]]), 2)
    tensor([[ True,  True, False, False]])
    """
    if not choices:
        return torch.zeros_like(scores, dtype=torch.bool)
    if bool(scores.isnan().any()):
        raise ValueError(message("latent scores", "scores must not be NaN", "infinities rank like any number",
                                 scores=scores))
    last = scores.kthvalue(scores.shape[1] - choices + 1, dim=1, keepdim=True).values
    above, level = scores > last, scores == last
    room = choices - above.sum(1, keepdim=True)
    if bool((level.sum(1, keepdim=True) == room).all()):  # no score is shared with one that has no room
        return above | level
    return above | (level & (level.cumsum(1) <= room))


def masks_of(problem: Problem, weights: Tensor, scores: Tensor, choices: int | None = None) -> PackedMasks:
    """The candidates of latent scores: the core, and the top `choices` of the open weights.

    weights:  int64 [m], `open_weights(problem)`
    scores:   float [P, m]
    choices:  in [0, m]; None is `problem.choices`
    returns:  `PackedMasks` of P masks, each of exactly the budget where `choices` is None
    """
    if scores.dim() != 2 or scores.shape[1] != len(weights):
        raise ValueError(message("latent scores", f"scores must be [P, {len(weights)}]: one for each open weight",
                                 scores=scores))
    layout, core = problem.layout, problem.core.words
    number = problem.choices if choices is None else choices
    mask, weight = chosen(scores.to(core.device), number).nonzero().unbind(1)
    position = layout.positions(weights[weight])
    words = core.repeat(len(scores), 1)
    # An open weight is not core and is chosen once a mask, so adding powers of two is the bitwise or.
    words.view(-1).index_add_(0, mask * layout.W + position // 64, torch.ones_like(position) << position % 64)
    return PackedMasks._of(layout, words)


def magnitude_scores(problem: Problem, weights: Tensor) -> Tensor:
    """float [m]: `|w|` of each open weight over about its standard deviation; the top ones are the magnitude mask.

    The divisor is a power of two, so that no two weights are rounded to one score.
    """
    sizes = problem.weights.abs()[weights]
    spread = sizes.std(correction=0) if len(sizes) else sizes.sum()
    return sizes * torch.exp2(-spread.log2().round()) if bool(spread > 0) else sizes


def start_scores(problem: Problem, weights: Tensor) -> Tensor:
    """float [m]: magnitude scores whose top ones are the mask that the search starts from.

    Where that is not the magnitude mask, the weights that it keeps or drops against their size are mirrored at the
    lowest score kept.
    """
    scores = magnitude_scores(problem, weights)
    if problem.fixed or problem.start == problem.magnitude:
        return scores
    kept = problem.start.flat()[0][weights]
    edge = scores.topk(problem.choices).values.min()
    against = kept == (scores < edge)
    mirrored = torch.where(against, 2 * edge - scores, scores)
    # Equal scores would be decided by index: what is dropped stays below the edge.
    return torch.where(kept, mirrored, mirrored.minimum(edge.nextafter(-torch.ones_like(edge))))


class LatentStrategy(Strategy):
    """A search over latent scores: `propose` float [P, m], `learn` from their fitness.

    Randomness is drawn on the CPU, whatever the device.
    """

    derived: ClassVar[frozenset[str]] = frozenset({"problem", "weights", "first"})

    def start(self, problem: Problem) -> None:
        self.problem = problem
        self.generation = 0
        self.random = torch.Generator().manual_seed(problem.seed)
        self.weights = open_weights(problem)
        self.first = start_scores(problem, self.weights)

    def ask(self) -> PackedMasks | None:
        if self.problem.fixed:
            return self.problem.start if self.generation == 0 else None
        return masks_of(self.problem, self.weights, self.propose())

    def tell(self, fitness: Tensor) -> None:
        if not self.problem.fixed:
            self.learn(fitness.to(self.first.device))
        self.generation += 1

    @abstractmethod
    def propose(self) -> Tensor:
        """Scores of the next candidates, float [P, m]; the first of all are `first`."""

    @abstractmethod
    def learn(self, fitness: Tensor) -> None:
        """Fitness of what was proposed last, float [P]."""

    def uniform(self, *shape: int) -> Tensor:
        """Floats in [0, 1)."""
        return torch.rand(*shape, generator=self.random).to(self.first)

    def normal(self, *shape: int) -> Tensor:
        """Floats of mean 0 and deviation 1."""
        return torch.randn(*shape, generator=self.random).to(self.first)

    def around_first(self, number: int, least: float = 0.01, most: float = 1.0) -> Tensor:
        """float [number, m]: `first`, then noise on it, of growing deviation from one to the next."""
        deviation = least * (most / least) ** torch.linspace(0, 1, number - 1).to(self.first)
        noisy = self.first + deviation[:, None] * self.normal(number - 1, len(self.first))
        return torch.cat([self.first[None], noisy])
