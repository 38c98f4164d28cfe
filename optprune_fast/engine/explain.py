"""What ran where, and why not elsewhere: the text of `Evaluator.explain()`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optprune_fast.engine.population import Population

if TYPE_CHECKING:
    from optprune_fast.engine.evaluator import Evaluator


def explanation(evaluator: Evaluator) -> str:
    """The steps of the plan, with the time of each; or layer by layer, with the reasons of what declined."""
    compiled = evaluator._compiled
    if compiled.ready and isinstance(compiled.program(evaluator.batches.kinds[0].example), Population):
        declined = {choice.reasons for _, choice in evaluator._forward.record.values() if choice is not None}
        return "\n".join([f"backend  {evaluator.backend} (asked for: {evaluator._forward.backend})",
                          "way      plan: the whole network, one tile of samples after the other",
                          *(f"not      {reasons}" for reasons in sorted(declined) if reasons), *_plan_table(evaluator)])
    return _layer_table(evaluator)


def _plan_table(evaluator: Evaluator) -> list[str]:
    """step, tile, weight, outputs of a row, density and measured milliseconds of the masks evaluated last."""
    compiled = evaluator._compiled
    program = compiled.program(evaluator.batches.kinds[0].example).program
    masks = evaluator._last_masks
    spent = None if masks is None else compiled.seconds(masks.words, evaluator.objective)
    density = {} if masks is None else {name: float(bits.float().mean()) for name, bits in masks.to_dense().items()}
    rows = [("step", "kind", "tile", "weight", "positions", "density", "ms a mask")]
    for index, step in enumerate(program.steps):
        layer = program.layers[step.layer] if step.layer >= 0 else None
        kind = step.op + ("" if step.activation[0] == "none" else f" + {step.activation[0]}")
        kept = 1.0 if layer is None or layer.first_word < 0 else density.get(layer.name)
        rows.append((step.name, kind, "narrow" if step.narrow else "wide",
                     "" if layer is None else "×".join(map(str, layer.weight.shape)),
                     "" if layer is None else str(layer.positions),
                     "" if layer is None or kept is None else f"{kept:.3f}",
                     "" if spent is None or masks is None else f"{1e3 * float(spent[index]) / len(masks):.3f}"))
    widths = [max(len(row[i]) for row in rows) for i in range(7)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _layer_table(evaluator: Evaluator) -> str:
    """layer, shape, operation, backend, and the reasons of the faster backends that declined."""
    forward = evaluator._forward
    plan = evaluator.plan(64)
    lines = [
        f"backend  {evaluator.backend} (asked for: {forward.backend})",
        f"way      {forward.way}" + (f": {forward.why_loop}" if forward.why_loop else ""),
        f"plan     {'the whole network, in Numba' if evaluator._compiled.ready else evaluator._compiled.reason}",
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
