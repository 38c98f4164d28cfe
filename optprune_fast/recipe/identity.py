"""What makes a search the one that a journal belongs to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from optprune_fast.engine.batches import Batch
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.ops.precision import chosen
from optprune_fast.runtime.files import sha256_tensors
from optprune_fast.search.encoding import encode
from optprune_fast.search.problem import Problem
from optprune_fast.search.run import Limits
from optprune_fast.search.strategy import Strategy


def identity(problem: Problem, strategy: Strategy, limits: Limits, validation: Evaluator) -> dict[str, Any]:
    """{name: value} of everything that decides which masks a search asks for, tensors by their SHA-256."""
    tensors: dict[str, Tensor] = {}
    described = json.dumps(encode(strategy.knobs(), tensors))
    evaluator = problem.evaluator
    return {
        "strategy": strategy.name, "knobs": described, "knobs_tensors": sha256_tensors(tensors),
        "evaluations": limits.evaluations, "time_limit": limits.seconds, "seed": problem.seed,
        "budget": problem.budget, "layout": problem.layout.to_json(), "objective": evaluator.objective.name,
        "backend": evaluator.backend, "weights": sha256_tensors(evaluator.weights),
        "masks": sha256_tensors({name: getattr(problem, name).words for name in ("core", "pool", "start")}),
        "data": _digest(evaluator.batches), "validation": _digest(validation.batches),
        **chosen("prune", evaluator.precision),
    }


def _digest(batches: Iterable[Batch]) -> str:
    return sha256_tensors({f"{number}.{place}": tensor for number, batch in enumerate(batches)
                           for place, tensor in enumerate(batch.tensors())})
