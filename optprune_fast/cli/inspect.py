"""`optprune-fast inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from optprune_fast.cli.export import show
from optprune_fast.cli.show import Json, number, percent, print_json, print_table, teaching
from optprune_fast.formats.file import KIND
from optprune_fast.formats.report import inspect_file
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.recipe.result import Result
from optprune_fast.runtime.tensor_file import kind_of


@teaching
def inspect(
    result: Annotated[Path, typer.Argument(help="Folder that `prune` wrote, its mask.safetensors, or a file that "
                                                "`export` wrote.")],
    json: Json = False,
) -> None:
    """What a saved result keeps, layer by layer, and where it comes from; or what a file of weights takes."""
    if result.is_file() and kind_of(result) == KIND:
        show(inspect_file(result), json)
        return
    found = Result.load(result)
    kept, small = _by_layer(found.mask), _by_layer(found.mask & ~found.magnitude)
    layers: list[dict[str, Any]] = [
        {"name": layer.name, "shape": list(layer.shape), "kept": kept[layer.name], "kept_small": small[layer.name],
         "density": kept[layer.name] / max(1, layer.rows * layer.columns)} for layer in found.layout]
    report = {
        "layers": layers, "weights": found.layout.n, "budget": found.budget, "sparsity": found.sparsity,
        "kept_small": found.kept_small, "core": int(found.core.count()), "small": found.small,
        "strategy": found.strategy, "seed": found.seed, "objective": found.objective,
        "precision": found.precision, "fitness": found.fitness, "baseline": found.baseline,
        "held_out": found.held_out, "evaluations": found.evaluations,
        "seconds": found.seconds, "stopped_by": found.stopped_by, "history": found.history,
        "base_digest": found.base_digest, "layout_digest": found.layout.digest}
    if json:
        print_json(report)
        return
    rows = [[x["name"], "×".join(map(str, x["shape"])), str(x["kept"]), percent(x["density"]), str(x["kept_small"])]
            for x in layers]
    total = ["all", str(found.layout.n), str(found.budget), percent(found.budget / found.layout.n),
             str(found.kept_small)]
    print_table(f"{result}", ["layer", "shape", "kept", "density", "kept small"], [*rows, total])
    typer.echo("small: a kept weight that magnitude pruning would drop")
    typer.echo(f"fitness {number(found.fitness)}, magnitude {number(found.baseline)} "
               f"({found.objective}, on {found.held_out})")
    typer.echo(f"strategy {found.strategy}, seed {found.seed}, share to choose {found.small:g}, core {report['core']}; "
               f"{found.evaluations} evaluations in {found.seconds:.1f} s, stopped by {found.stopped_by}")
    typer.echo(f"weights sha256 {found.base_digest}\nlayout  sha256 {found.layout.digest}")


def _by_layer(mask: PackedMasks) -> dict[str, int]:
    return {name: int(bits.sum()) for name, bits in mask.to_dense().items()}
