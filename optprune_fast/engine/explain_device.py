"""What runs where on a GPU: the part of `Evaluator.explain()` for a `DevicePopulation`."""

from __future__ import annotations

from optprune_fast.engine.device_moves import moved_end
from optprune_fast.engine.device_population import DevicePopulation
from optprune_fast.engine.device_steps import MaskedStep, Step
from optprune_fast.engine.objective import Objective
from optprune_fast.engine.table import aligned
from optprune_fast.ops.triton_support import product

SHOWN = 64  # candidates of an example


def device_lines(runner: DevicePopulation, samples: int, objective: Objective) -> list[str]:
    """Way, precision, chunks and loss of `SHOWN` candidates, and a row for each step."""
    plan, alone = runner.plan(SHOWN, samples), runner.arena.refused
    fused = runner.last(objective.name) if objective.named else None
    graph = "as one CUDA graph" if runner.replayed(SHOWN, samples) else "launched step by step" + (
        f", since {alone}" if alone else "")
    rows: list[tuple[str, ...]] = [("step", "runs in", "weight", "input", "tile", "stored")]
    rows += [_row(step, step is fused, plan.candidates) for step in runner.steps]
    return [
        f"way      plan: the whole network, all candidates of a chunk step by step, on {runner.device}",
        f"multiply {runner.precision} in masked layers; what torch runs, as torch is set",
        f"chunks   {plan.candidates} of {SHOWN} candidates × {plan.samples} of {samples} samples at once, in "
        f"{runner.memory >> 20} MiB; {graph}",
        f"loss     {'in the last layer, whose outputs are not stored' if fused else 'of stored outputs, by torch'}",
        f"moves    {_moves(runner)}",
        *aligned(rows)]


def _moves(runner: DevicePopulation) -> str:
    masked = [index for index, step in enumerate(runner.steps) if isinstance(step, MaskedStep)]
    spread = sum(moved_end(runner.steps, index, runner.graph.output) is not None for index in masked)
    return ("from the parent's values on, at the first step that they flip; "
            f"{spread} of {len(masked)} masked steps by differences, convolutions anew")


def _row(step: Step, is_loss: bool, candidates: int) -> tuple[str, ...]:
    if not isinstance(step, MaskedStep):
        name = step.node.attributes["name"] if step.node.op == "torch" else step.node.op
        return (name, "torch", "", "shared" if step.shared else "own", "", "")
    after = ["bias"] * (step.epilogue.bias is not None) + [step.epilogue.activation] * (
        step.epilogue.activation != "none") + ["loss"] * is_loss
    rows = step.weight.shape[0] // step.node.attributes.get("groups", 1)
    how = product(step.weight, rows, candidates, step.precision, shared=step.shared, wide=False,
                  large=step.node.op == "linear")
    tile = "" if is_loss else f"{how.launch.tile_b}×{how.launch.tile_o}" + ", stacked" * how.stacked
    return (" + ".join([step.node.op, *after]), "triton", "×".join(map(str, step.layer.shape)),
            "shared" if step.shared else "own", tile, "" if is_loss else str(step.stored).removeprefix("torch."))
