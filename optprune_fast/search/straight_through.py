"""Mask scores trained by straight-through gradients, weights frozen."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from optprune_fast.masks.packed import PackedMasks
from optprune_fast.search.latent import masks_of, open_weights, start_scores
from optprune_fast.search.problem import Problem
from optprune_fast.search.strategy import Strategy


class StraightThrough(Strategy):
    """Each open weight gets a latent score, at first its magnitude; Adam trains the scores.

        scores ── top k ──▶ mask ── loss on `batch` samples ──▶ gradient of the effective weight × weight ──▶ scores

    The gradient of a score is taken as if the mask were the score itself, as in edge-popup (Ramanujan et al. 2020);
    dropped weights have gradients too, and so can come back. The rate falls along a cosine. The mask is evaluated
    every `leg` steps.

    steps:  of Adam, in all; None is a 64th of the samples, from 200 to 800
    rate:   the highest, in standard deviations of the weights
    """

    name = "straight_through"
    derived: ClassVar[frozenset[str]] = frozenset({"problem", "places"})

    def __init__(self, steps: int | None = None, batch: int = 256, rate: float = 0.01, leg: int = 50) -> None:
        self.steps, self.batch, self.rate, self.leg = steps, batch, rate, leg

    def start(self, problem: Problem) -> None:
        self.problem = problem
        self.last = min(800, max(200, problem.evaluator.samples // 64)) if self.steps is None else self.steps
        self.random = torch.Generator().manual_seed(problem.seed)
        self.places = open_weights(problem)
        self.scores = start_scores(problem, self.places)
        self.mean, self.spread = torch.zeros_like(self.scores), torch.zeros_like(self.scores)
        self.step = self.questions = 0
        self.order = torch.empty(0, dtype=torch.int64)

    def ask(self) -> PackedMasks | None:
        self.questions += 1
        if self.questions == 1:
            return self.problem.start
        if self.problem.fixed or self.step >= self.last:
            return None
        for _ in range(min(self.leg, self.last - self.step)):
            self._descend()
        return masks_of(self.problem, self.places, self.scores[None])

    def tell(self, fitness: Tensor) -> None:
        """The scores follow the gradients alone; the run keeps the best mask."""

    def _descend(self) -> None:
        problem, samples = self.problem, self._samples()
        gradients = problem.evaluator.mean_gradients(masks_of(problem, self.places, self.scores[None]), samples)
        problem.work.gradients += len(samples) / problem.evaluator.samples
        slope = (torch.cat([g.flatten() for g in gradients.values()]) * problem.weights)[self.places]
        self.step += 1
        self.mean.lerp_(slope, 0.1)
        self.spread.mul_(0.999).addcmul_(slope, slope, value=0.001)
        done = max(self.step / self.last, self.progress)
        rate = self.rate * (1 + math.cos(math.pi * min(done, 1.0))) / 2
        mean, spread = self.mean / (1 - 0.9**self.step), self.spread / (1 - 0.999**self.step)
        self.scores -= rate * mean / (spread.sqrt() + 1e-10)

    def _samples(self) -> Tensor:
        """int64 [batch]: the next of the data in random order, each once before any comes again."""
        while len(self.order) < min(self.batch, self.problem.evaluator.samples):
            order = torch.randperm(self.problem.evaluator.samples, generator=self.random)
            self.order = torch.cat([self.order, order])
        taken, self.order = self.order[: self.batch], self.order[self.batch:]
        return taken
