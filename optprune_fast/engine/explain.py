"""What ran where, and why not elsewhere: the text of `Evaluator.explain()`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from optprune_fast.engine.mixed import Mixed
from optprune_fast.engine.population import Population, dense_from
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.plan.program import LayerUse, Step

if TYPE_CHECKING:
    from optprune_fast.engine.evaluator import Evaluator


def explanation(evaluator: Evaluator) -> str:
    """The steps of the plan, with the time of each; or its parts; or layer by layer, with what declined and why."""
    compiled = evaluator._compiled
    runner = compiled.program(evaluator.batches.kinds[0].example) if compiled.ready else None
    if not isinstance(runner, (Population, Mixed)):
        return _layer_table(evaluator)
    declined = {choice.reasons for _, choice in evaluator._forward.record.values() if choice is not None}
    if isinstance(runner, Mixed):
        way, table = _parts_said(runner), _parts_table(evaluator, runner)
    else:
        way, table = "the whole network, one tile of samples after the other", _plan_table(evaluator, runner)
    return "\n".join([f"backend  {evaluator.backend} (asked for: {evaluator._forward.backend})",
                      f"way      plan: {way}",
                      *(f"not      {reasons}" for reasons in sorted(declined) if reasons), *table])


def _plan_table(evaluator: Evaluator, runner: Population) -> list[str]:
    """step, tile, weight, outputs of a row, density, way and measured milliseconds of the masks evaluated last."""
    program, masks = runner.program, evaluator._last_masks
    spent = None if masks is None else evaluator._compiled.seconds(masks.words, evaluator.objective)
    density = _density(masks)
    rows: list[tuple[str, ...]] = [("step", "kind", "tile", "weight", "positions", "density", "way", "ms a mask")]
    for index, step in enumerate(program.steps):
        layer = program.layers[step.layer] if step.layer >= 0 else None
        kind = step.op + ("" if step.activation[0] == "none" else f" + {step.activation[0]}")
        kept = None if layer is None else torch.ones(1) if layer.first_word < 0 else density.get(layer.name)
        rows.append((step.name, kind, "narrow" if step.narrow else "wide",
                     "" if layer is None else "×".join(map(str, layer.weight.shape)),
                     "" if layer is None else str(layer.positions),
                     "" if kept is None else f"{float(kept.mean()):.3f}",
                     "" if kept is None or layer is None else _way(step, layer, kept),
                     "" if spent is None or masks is None else f"{1e3 * float(spent[index]) / len(masks):.3f}"))
    return _aligned(rows)


def _parts_said(runner: Mixed) -> str:
    native = sum(part.native for part in runner.parts)
    return f"{native} native part{'s' * (native > 1)}, and {len(runner.parts) - native} in torch"


def _parts_table(evaluator: Evaluator, runner: Mixed) -> list[str]:
    """part by part: where it runs, for how many candidates at once, and each operation; layers with their density."""
    engine, density = evaluator.backend, _density(evaluator._last_masks)
    said = {"shared": "once for all", "together": "many at once", "each": "one by one"}
    rows: list[tuple[str, ...]] = [("part", "runs in", "candidates", "operations", "weight", "density")]
    for index, part in enumerate(runner.parts):
        start = (str(index), engine if part.native else "torch", said[part.stage])
        for node in part.graph.nodes:
            if node.op not in ("input", "constant") and node.output in runner.graph.shapes:
                weight = node.tensors.get("weight", "")
                kept = density.get(weight)
                rows.append((*start, node.attributes["name"] if node.op == "torch" else node.op, weight,
                             "" if kept is None else f"{float(kept.mean()):.3f}"))
                start = ("", "", "")
    return _aligned(rows)


def _density(masks: PackedMasks | None) -> dict[str, Tensor]:
    """Of the masks evaluated last: the share of each layer that they keep, [P]."""
    return {} if masks is None else {n: bits.float().flatten(1).mean(1) for n, bits in masks.to_dense().items()}


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _way(step: Step, layer: LayerUse, kept: Tensor) -> str:
    """dense: dropped weights are multiplied as zeros; skip: they are not; both: it depends on the mask."""
    dense = kept >= dense_from(step, layer)
    return "dense" if dense.all() else "both" if dense.any() else "skip"


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
