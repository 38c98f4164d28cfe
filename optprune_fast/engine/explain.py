"""What ran where, and why not elsewhere: the text of `Evaluator.explain()`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from optprune_fast.engine import cost_probe, look_up
from optprune_fast.engine.cost import counts_of, way_of
from optprune_fast.engine.device_population import DevicePopulation
from optprune_fast.engine.explain_device import device_lines
from optprune_fast.engine.mixed import Mixed
from optprune_fast.engine.population import Population
from optprune_fast.engine.table import aligned
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.plan.program import LayerUse, Program, Step

if TYPE_CHECKING:
    from optprune_fast.engine.evaluator import Evaluator


def explanation(evaluator: Evaluator, density: float | None) -> str:
    """The steps of the plan, with the time of each; or its parts; or layer by layer, with what declined and why."""
    compiled = evaluator._compiled
    runner = compiled.program(evaluator.batches.kinds[0].example) if compiled.ready else None
    if isinstance(runner, DevicePopulation):
        return "\n".join([f"backend  {evaluator.backend} (asked for: {evaluator._forward.backend})",
                          *device_lines(runner, evaluator.batches.kinds[0].largest, evaluator.objective)])
    if not isinstance(runner, (Population, Mixed)):
        return _layer_table(evaluator)
    declined = {choice.reasons for _, choice in evaluator._forward.record.values() if choice is not None}
    if isinstance(runner, Mixed):
        way, table = _parts_said(runner), _parts_table(evaluator, runner)
    else:
        way, table = "the whole network, one tile of samples after the other", _plan_table(evaluator, runner, density)
    return "\n".join([f"backend  {evaluator.backend} (asked for: {evaluator._forward.backend})",
                      f"way      plan: {way}",
                      f"handed   {evaluator._hand_over.said}",
                      *(f"not      {reasons}" for reasons in sorted(declined) if reasons), *table])


def _plan_table(evaluator: Evaluator, runner: Population, density: float | None) -> list[str]:
    """step, tile, weight, outputs of a row, density, way, and milliseconds of a mask on one thread.

    They are predicted for this density; without one for the masks evaluated last, and then measured with them as well.
    """
    program, masks = runner.program, None if density is not None else evaluator._last_masks
    shares = _shares(program, masks, 1.0 if density is None else density)
    samples, rate = evaluator._compiled.timed_samples, cost_probe.probe(runner.isa)
    predicted = torch.tensor([[rate(counts) for counts in counts_of(program, kept, runner.lanes)]
                              for kept in shares]).mean(0) * (1e-6 * samples)
    looks_up = _looks_up(evaluator, runner, masks, 1.0 if density is None else density)
    if looks_up:
        counts = look_up.look_up_counts(runner, look_up.MANY if masks is None else len(masks))
        predicted[0] = look_up.COEFFICIENTS[runner.isa](counts) * 1e-6 * samples
    spent = None if masks is None else 1e3 / len(masks) * evaluator._compiled.seconds(masks.words, evaluator.objective)
    rows: list[tuple[str, ...]] = [("step", "kind", "tile", "weight", "positions", "density", "way", "predicted ms",
                                    "measured ms")]
    for index, step in enumerate(program.steps):
        layer = program.layers[step.layer] if step.layer >= 0 else None
        kept = [] if layer is None else [some[step.layer] for some in shares]
        rows.append((step.name, step.op + ("" if step.activation[0] == "none" else f" + {step.activation[0]}"),
                     "narrow" if step.narrow else "wide",
                     "" if layer is None else "×".join(map(str, layer.weight.shape)),
                     "" if layer is None else str(layer.positions),
                     "" if layer is None else f"{sum(kept) / len(kept):.3f}",
                     "" if layer is None else "look-up" if looks_up and index == 0 else _way(step, layer, kept),
                     f"{float(predicted[index]):.3f}", "" if spent is None else f"{float(spent[index]):.3f}"))
    rows.append(("together", "", "", "", "", "", "", f"{float(predicted.sum()):.3f}",
                 "" if spent is None else f"{float(spent.sum()):.3f}"))
    return [f"times    of a mask, {samples} samples, one thread", *aligned(rows)]


def _looks_up(evaluator: Evaluator, runner: Population, masks: PackedMasks | None, density: float) -> bool:
    """Whether the first layer of these masks, or of many at this density, goes by table look-up."""
    if not (evaluator._compiled.lookup and evaluator.objective.named):
        return False
    if masks is not None:
        return evaluator._compiled.runner_of(masks.words, runner) is not runner
    return look_up.serves(runner, look_up.MANY) and look_up.pays(runner, [density] * look_up.MANY)


def _shares(program: Program, masks: PackedMasks | None, density: float) -> list[list[float]]:
    """Of each mask, or of one at this density: the share of each layer that it keeps; unpruned ones are whole."""
    if masks is None:
        return [[1.0 if layer.first_word < 0 else density for layer in program.layers]]
    kept = _density(masks)
    return [[float(kept[layer.name][p]) if layer.name in kept else 1.0 for layer in program.layers]
            for p in range(len(masks))]


def _parts_said(runner: Mixed) -> str:
    native = sum(part.native for part in runner.parts)
    return f"{native} native part{'s' * (native > 1)}, and {len(runner.parts) - native} in torch"


def _parts_table(evaluator: Evaluator, runner: Mixed) -> list[str]:
    """part by part: where it runs, for how many candidates at once, measured milliseconds of the masks evaluated last,
    and each operation; layers with their density."""
    engine, masks = evaluator.backend, evaluator._last_masks
    density = _density(masks)
    spent = None if masks is None else 1e3 / len(masks) * evaluator._compiled.seconds(masks.words, evaluator.objective)
    said = {"shared": "once for all", "together": "many at once", "each": "one by one"}
    rows: list[tuple[str, ...]] = [("part", "runs in", "candidates", "measured ms", "operations", "weight",
                                    "density")]
    for index, part in enumerate(runner.parts):
        start = (str(index), engine if part.native else "torch", said[part.stage],
                 "" if spent is None else f"{float(spent[index]):.3f}")
        for node in part.graph.nodes:
            if node.op not in ("input", "constant") and node.output in runner.graph.shapes:
                weight = node.tensors.get("weight", "")
                kept = density.get(weight)
                rows.append((*start, node.attributes["name"] if node.op == "torch" else node.op, weight,
                             "" if kept is None else f"{float(kept.mean()):.3f}"))
                start = ("", "", "", "")
    return [f"times    of a mask, {evaluator._compiled.timed_samples} samples", *aligned(rows)]


def _density(masks: PackedMasks | None) -> dict[str, Tensor]:
    """Of the masks evaluated last: the share of each layer that they keep, [P]."""
    return {} if masks is None else {n: bits.float().flatten(1).mean(1) for n, bits in masks.to_dense().items()}


def _way(step: Step, layer: LayerUse, kept: Sequence[float]) -> str:
    """That of all masks, or those of some and of others."""
    return "/".join(sorted({way_of(step, layer, share) for share in kept}))


def _layer_table(evaluator: Evaluator) -> str:
    """layer, shape, operation, backend, and the reasons of the faster backends that declined."""
    forward = evaluator._forward
    plan = evaluator.plan(64)
    lines = [
        f"backend  {evaluator.backend} (asked for: {forward.backend})",
        f"way      {forward.way}" + (f": {forward.why_loop}" if forward.why_loop else ""),
        f"plan     {'the whole network, in Numba' if evaluator._compiled.ready else evaluator._compiled.reason}",
        f"moves    moved masks are evaluated whole: no plan of {evaluator.backend} starts from a parent",
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
