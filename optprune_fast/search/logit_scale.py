"""How large the logits of a search are made: pruning shrinks them, and a search must not spend weights on that.

Cross-entropy asks two things of a network: to be right, and to be as sure as the data allow. A pruned one has smaller
logits, since its sums have fewer terms. At their own scale a search buys sureness with weights that would have served
accuracy. Which class is largest does not depend on a scale, so the search gets one, as temperature scaling gives a
trained network one [1].

    a short search at scale 1 ──▶ the scale t at which its mask has the least loss ──▶ t², the search's own

Where weights are plenty, t is 1: logits shrink for want of weights, and not because some are pruned. A mask that was
searched for at scale t has its own best scale beyond it, hence the square (docs/RESULTS.md, the scale of the logits).

[1] Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks, ICML 2017.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.search.problem import Problem, Work
from optprune_fast.search.run import Limits, Outcome, run
from optprune_fast.search.straight_through import StraightThrough

STEPS, LEG = 200, 50
SAMPLES = 8192   # at least, of the data that the short search is judged on
SHARE = 0.15     # of a time limit, for the short search
MOST = 10.0
HALVINGS = 30


def find_logit_scale(problem: Problem, validation: Evaluator, seconds: float | None) -> tuple[float, Outcome | None]:
    """(the scale of a search, the short search that told), for evaluators of cross-entropy at scale 1.

    validation: where the best scale of the mask is looked for: on what it was trained on, a network is too sure
    seconds:    the time limit of the search, or None. Without one the scale depends on nothing but data, weights and
                seed

    It has two digits: backends round differently, and a seed must give one mask on all of them. Where nothing can be
    chosen, or the short search would take too much of the time, it is 1: a mask that was hardly searched for has small
    logits on any network. What was spent is counted in `problem.work`.
    """
    if problem.fixed:
        return 1.0, None
    part = problem.first_part(problem.doublings(SAMPLES))
    if seconds is not None and STEPS * _step_seconds(problem, part) > SHARE * seconds:
        return 1.0, None
    short, scores = replace(problem, evaluator=part, work=Work()), StraightThrough(steps=STEPS, leg=LEG)
    outcome = run(short, scores, part, Limits(1 + STEPS // LEG, None if seconds is None else SHARE * seconds),
                  progress=False)
    share = part.samples / problem.evaluator.samples
    problem.work.gradients += share * short.work.gradients
    problem.work.screened += share * outcome.evaluations
    if scores.step < STEPS:
        return 1.0, outcome
    outputs, targets = validation.outputs_and_targets(outcome.mask)
    assert targets is not None
    return float(f"{min(MOST, best_scale(outputs[0], targets.long()) ** 2):.2g}"), outcome


def _step_seconds(problem: Problem, part: Evaluator) -> float:
    """What a step of scores takes, by the second of two, as the first one pays for what comes once."""
    samples = torch.arange(min(StraightThrough().batch, part.samples))
    for _ in range(2):
        start = time.monotonic()
        part.mean_gradients(problem.start, samples)
    return time.monotonic() - start


def best_scale(outputs: Tensor, targets: Tensor) -> float:
    """The number from 1 to the root of `MOST` by which logits [B, C, …] have the least cross-entropy [B, …].

    The loss is convex in it, so its slope tells on which side to look.

    >>> import torch
    >>> best_scale(torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 0, 1]))
    1.0
    """
    outputs = outputs.double().nan_to_num()
    right = outputs.gather(1, targets.unsqueeze(1)).mean()
    low, high = 1.0, MOST ** 0.5
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        slope = ((middle * outputs).softmax(1) * outputs).sum(1).mean() - right
        low, high = (middle, high) if slope < 0 else (low, middle)
    return low
