"""This package: `Evaluator(model, data)(masks)`, from packed masks, each evaluated on its own.

The masks of a timed call are meant to be unrelated. Near density 1 no masks are, and starting one from another would
measure what they have in common.
"""

from __future__ import annotations

from optprune_fast.bench.problem import Masks, Problem
from optprune_fast.bench.rival import Prepared
from optprune_fast.engine.evaluator import Evaluator


def prepare(problem: Problem, masks: Masks, backend: str) -> Prepared:
    evaluator = Evaluator(problem.model, (problem.inputs, problem.targets), backend=backend, layout=problem.layout,
                          reuse=())
    return Prepared(lambda masks: evaluator(masks.packed), "" if backend == evaluator.backend else evaluator.backend)
