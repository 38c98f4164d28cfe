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
import warnings
from dataclasses import replace

import torch

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.logit_scale import JUDGED, Part, best_scale
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import EvaluationWarning
from optprune_fast.search.problem import Problem, Work
from optprune_fast.search.run import Limits, run
from optprune_fast.search.straight_through import StraightThrough

STEPS, LEG = 200, 50
SAMPLES = 8192   # at least, of the data that the short search is judged on
SHARE = 0.15     # of a time limit, for the short search
MOST = 10.0


def find_logit_scale(problem: Problem, validation: Evaluator, seconds: float | None) -> float:
    """The scale of the logits in a search, for evaluators of cross-entropy at scale 1.

    validation: where the best scale of the mask is looked for: on what it was trained on, a network is too sure
    seconds:    the time limit of the search, or None. Without one the scale depends on nothing but data, weights and
                seed

    It has two digits: backends round differently, and a seed must give one mask on all of them. Where nothing can be
    chosen, or the short search would take too much of the time, it is 1: a mask that was hardly searched for has small
    logits on any network. So it is, with an `EvaluationWarning`, where torch cannot differentiate the model. What was
    spent is counted in `problem.work`.
    """
    if problem.fixed:
        return 1.0
    doublings = problem.doublings(SAMPLES)
    part = problem.first_part(doublings) if doublings else problem.evaluator
    try:
        if seconds is not None and STEPS * _step_seconds(problem, part) > SHARE * seconds:
            return 1.0
        mask = _short_search(problem, part, None if seconds is None else SHARE * seconds)
    except (RuntimeError, NotImplementedError) as problem_met:
        warnings.warn(f"the scale of the logits is taken as 1, as the model has no gradients: {problem_met}; "
                      "logit_scale=1 does not ask for any", EvaluationWarning, stacklevel=2)
        return 1.0
    if mask is None:
        return 1.0
    judged = _enough_of(validation, problem.seed).output_parts(mask)
    parts: list[Part] = [(outputs, targets) for outputs, targets in judged if targets is not None]
    return float(f"{min(MOST, best_scale(parts, MOST**0.5) ** 2):.2g}")


def _short_search(problem: Problem, part: Evaluator, seconds: float | None) -> PackedMasks | None:
    """The mask that scores find; None where time ran out before. Ctrl-C passes through."""
    short, scores = replace(problem, evaluator=part, work=Work()), StraightThrough(steps=STEPS, leg=LEG)
    # The strategy ends by itself; its schedule would run ahead of its steps with the share of a limit that is used up.
    outcome = run(short, scores, part, Limits(100 * STEPS, seconds), progress=False)
    share = part.samples / problem.evaluator.samples
    problem.work.gradients += share * short.work.gradients
    problem.work.screened += share * outcome.evaluations
    if outcome.stopped_by == "interrupt":
        raise KeyboardInterrupt
    return outcome.mask if scores.step == STEPS else None


def _enough_of(data: Evaluator, seed: int) -> Evaluator:
    """All samples, or as many as have the outputs that are needed: one from each of as many stretches of the data,
    which may be sorted by class."""
    outputs = sum(batch.targets.numel() for batch in data.batches if batch.targets is not None)
    wanted = -(-JUDGED * data.samples // outputs)
    if wanted >= data.samples:
        return data
    edges = torch.arange(wanted + 1) * data.samples // wanted
    within = torch.rand(wanted, generator=torch.Generator().manual_seed(seed)) * edges.diff()
    return data.subset(edges[:-1] + within.long())


def _step_seconds(problem: Problem, part: Evaluator) -> float:
    """What a step of scores takes, by the second of two, as the first one pays for what comes once."""
    samples = torch.arange(min(StraightThrough().batch, part.samples))
    for _ in range(2):
        start = time.monotonic()
        found = part.mean_gradients(problem.start, samples)
        float(next(iter(found.values())).flatten()[0])  # a GPU is not done before it is asked
    return time.monotonic() - start
