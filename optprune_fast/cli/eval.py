"""`optprune-fast eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from optprune_fast.cli.loading import CHECKPOINT_HELP, DATA_HELP, FACTORY_HELP, check_fits, load_data, load_model
from optprune_fast.cli.show import Json, number, percent, print_json, print_table, teaching
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.magnitude import select
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.recipe.result import Result, weights_digest
from optprune_fast.runtime.errors import message

METHODS = ("dense", "magnitude", "mask")


@teaching
def evaluate(
    result: Annotated[Path, typer.Argument(help="Folder that `prune` wrote, or its mask.safetensors.")],
    model: Annotated[str, typer.Argument(help=FACTORY_HELP)],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    checkpoint: Annotated[Path | None, typer.Option(help=CHECKPOINT_HELP)] = None,
    backend: Annotated[str, typer.Option(help="auto, cuda, triton, native, numba or torch.")] = "auto",
    allow_changed_weights: Annotated[bool, typer.Option(help="The model was fine-tuned since.")] = False,
    json: Json = False,
) -> None:
    """Loss and accuracy of the dense network, of magnitude pruning at the same budget, and of the saved mask.

    On the test part of the data, or on the train part where there is no other; the output says which.
    """
    found = Result.load(result)
    samples = load_data(data)
    net = load_model(model, checkpoint)
    weights = found.layout.weights_of(net)
    digest = weights_digest(weights)
    if digest != found.base_digest and not allow_changed_weights:
        raise ValueError(message("eval", "the model's weights are not those that the mask was found for",
                                 "give their --checkpoint, or --allow-changed-weights after fine-tuning",
                                 expected=found.base_digest[:16], found=digest[:16]))
    part, chosen = ("train", samples.train) if samples.test is None else ("test", samples.test)
    check_fits(net, chosen, data)
    # Of the weights as they are now: after fine-tuning the result's own magnitude mask is of other weights.
    magnitude = select(found.layout, weights, found.budget, 0).mask
    masks = PackedMasks.cat([PackedMasks.full(found.layout), magnitude, found.mask])
    metrics = Evaluator(net, chosen, backend=backend, layout=found.layout).metrics(masks)
    rows: list[dict[str, Any]] = [
        {"method": name, "kept": int(masks[i].count()), "loss": float(metrics["loss"][i]),
         "accuracy": float(metrics["accuracy"][i])} for i, name in enumerate(METHODS)]
    report = {"rows": rows, "data": samples.name, "part": part, "samples": len(chosen[1]),
              "weights_as_found": digest == found.base_digest}
    if json:
        print_json(report)
        return
    print_table(f"{samples.name}, {part} part, {report['samples']} samples",
                ["method", "kept", "cross-entropy", "accuracy"],
                [[row["method"], str(row["kept"]), number(row["loss"]), percent(row["accuracy"])] for row in rows])
    if digest != found.base_digest:
        typer.echo("the weights have changed since the mask was found")
