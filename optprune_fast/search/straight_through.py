"""Mask scores trained by straight-through gradients, weights frozen."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.threads import one_thread
from optprune_fast.search.latent import masks_of, open_weights, start_scores
from optprune_fast.search.problem import Problem
from optprune_fast.search.strategy import Strategy


class StraightThrough(Strategy):
    """Each open weight gets a latent score, at first its magnitude; gradient descent with momentum trains the scores.

        scores ── top k ──▶ mask ── loss on `batch` samples ──▶ gradient of the effective weight × weight ──▶ scores

    The gradient of a score is taken as if the mask were the score itself, as in edge-popup (Ramanujan et al. 2020);
    dropped weights have gradients too, and so can come back. All slopes are divided by one number, the root mean
    square over all scores of late: a step for each score of its own, as Adam takes it, would raise a weight that hardly
    helps as fast as one that helps much, and more steps would make the mask worse. Scores decay, as in edge-popup, and
    so are about a moving mean of what each weight is worth beside the others that are kept.

    The mask that is trained keeps more weights than the budget at first, and fewer along the cubic schedule of Zhu and
    Gupta (2017), so that weights which are only good together are found while both have room:

        kept        `dense` · k ──╮
                                   ╰──────── k ────────────────   cubic until `narrow`, the share of all steps
        rate        `rate` ──────────╮
                                      ╰────────────────── 0       a cosine

    A mask of the exact budget is evaluated every `leg` steps.

    steps:  in all; None is a 64th of the samples, from 200 to 800
    rate:   the highest, in standard deviations of the weights
    decay:  of the scores in a step, in rates
    dense:  weights that are kept at first, in budgets; 1 keeps the budget all along
    narrow: the share of all steps after which the budget is kept

    >>> import optprune_fast as opf
    >>> model, data = torch.nn.Linear(8, 3), (torch.randn(64, 8), torch.randint(3, (64,)))
    >>> scores = StraightThrough(steps=20, batch=16, leg=5)
    >>> opf.prune(model, data, 0.75, strategy=scores, evaluations=9, progress=False).mask.count()
    tensor([6])
    """

    name = "straight_through"
    derived: ClassVar[frozenset[str]] = frozenset({"problem", "places"})

    def __init__(self, steps: int | None = None, batch: int = 256, rate: float = 0.03, leg: int = 50,
                 decay: float = 0.3, dense: float = 5.0, narrow: float = 0.5) -> None:
        self.steps, self.batch, self.rate, self.leg = steps, batch, rate, leg
        self.decay, self.dense, self.narrow = decay, dense, narrow

    def start(self, problem: Problem) -> None:
        self.problem = problem
        self.last = min(800, max(200, problem.evaluator.samples // 64)) if self.steps is None else self.steps
        self.random = torch.Generator().manual_seed(problem.seed)
        self.places = open_weights(problem)
        self.scores = start_scores(problem, self.places)
        self.mean, self.spread = torch.zeros_like(self.scores), 0.0
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
        done = min(1.0, max(self.step / self.last, self.progress))
        mask = masks_of(problem, self.places, self.scores[None], self._choices(done))
        gradients = problem.evaluator.mean_gradients(mask, samples)
        problem.work.gradients += len(samples) / problem.evaluator.samples
        slope = (torch.cat([g.flatten() for g in gradients.values()]) * problem.weights)[self.places]
        self.step += 1
        self.mean.lerp_(slope, 0.1)
        with one_thread():  # several add up in another order
            square = float(torch.linalg.vector_norm(slope, dtype=torch.float64)) ** 2 / max(1, len(slope))
        self.spread += 0.001 * (square - self.spread)
        rate = self.rate * (1 + math.cos(math.pi * done)) / 2
        size = math.sqrt(self.spread / (1 - 0.999**self.step)) + 1e-10
        self.scores.mul_(1 - rate * self.decay).sub_(self.mean, alpha=rate / (1 - 0.9**self.step) / size)

    def _choices(self, done: float) -> int:
        """How many open weights the mask that is trained keeps, after that share of the steps."""
        left = max(0.0, 1 - done / self.narrow) if self.narrow else 0.0
        most = min(len(self.places), round(self.dense * self.problem.choices))
        return self.problem.choices + int((most - self.problem.choices) * left**3)

    def _samples(self) -> Tensor:
        """int64 [batch]: the next of the data in random order, each once before any comes again."""
        while len(self.order) < min(self.batch, self.problem.evaluator.samples):
            order = torch.randperm(self.problem.evaluator.samples, generator=self.random)
            self.order = torch.cat([self.order, order])
        taken, self.order = self.order[: self.batch], self.order[self.batch:]
        return taken
