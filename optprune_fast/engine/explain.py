"""What ran where, and why not elsewhere: the text of `Evaluator.explain()`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optprune_fast.engine.evaluator import Evaluator


def explanation(evaluator: Evaluator) -> str:
    """A table: layer, shape, operation, backend, and the reasons of the faster backends that declined."""
    forward = evaluator._forward
    plan = evaluator.plan(64)
    lines = [
        f"backend  {evaluator.backend} (asked for: {forward.backend})",
        f"way      {forward.way}" + (f": {forward.why_loop}" if forward.why_loop else ""),
        f"chunks   {plan.candidates} of 64 candidates × {plan.samples} of {evaluator.samples} samples at once",
    ]
    rows = [("layer", "weight", "operation", "backend", "why not a faster one")]
    for layer in evaluator.layout:
        operation, choice = forward.record.get(layer.name, ("not used by the model", None))
        rows.append((layer.name, "×".join(map(str, layer.shape)), operation,
                     "torch" if choice is None else choice.backend, "" if choice is None else choice.reasons))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    table = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]).rstrip()
             for row in rows]
    return "\n".join([*lines, *table])
