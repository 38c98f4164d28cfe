"""`optprune-fast export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optprune_fast.cli.loading import CHECKPOINT_HELP, FACTORY_HELP, load_model
from optprune_fast.cli.show import Json, percent, print_json, print_table, teaching
from optprune_fast.formats.choose import TARGETS
from optprune_fast.formats.compressed_tensors import LAYOUTS
from optprune_fast.formats.export import export as export_model
from optprune_fast.formats.registry import FORMATS
from optprune_fast.formats.report import FileReport
from optprune_fast.recipe.result import Result

HEADER = ["layer", "shape", "density", "format", "values", "bytes", "of dense", "of the bound"]


@teaching
def export(
    result: Annotated[Path, typer.Argument(help="Folder that `prune` wrote, or its mask.safetensors.")],
    model: Annotated[str, typer.Argument(help=FACTORY_HELP)],
    checkpoint: Annotated[Path | None, typer.Option(help=CHECKPOINT_HELP)] = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("model.safetensors"),
    format: Annotated[str, typer.Option(help=f"auto, {', '.join((*FORMATS, *LAYOUTS))}.")] = "auto",
    target: Annotated[str, typer.Option(help=f"{', '.join(TARGETS)}: what the file is for.")] = "cpu",
    values: Annotated[str, typer.Option(help="raw, or exponent: 16-bit values coded without loss.")] = "raw",
    allow_changed_weights: Annotated[bool, typer.Option(help="The model was fine-tuned since.")] = False,
    json: Json = False,
) -> None:
    """Write a model's weights under a saved mask as a file of sparse weights."""
    found = Result.load(result)
    net = load_model(model, checkpoint)
    found.require_weights(net, allow_changed_weights, "export")
    show(export_model(net, found.mask, out, format=format, target=target, values=values), json)


def show(report: FileReport, json: bool) -> None:
    """The layers of a file of weights, as a table or as JSON."""
    if json:
        print_json(report.to_json())
        return
    rows = [[x.name, "×".join(map(str, x.shape)), percent(x.density), x.format, x.values, str(x.bytes),
             percent(x.bytes / max(1, x.dense_bytes)), f"{x.bytes / x.bound:.3f}" if x.bound else ""]
            for x in report.layers]
    other = ["everything else", "", "", "dense", "raw", str(report.other_bytes), "", ""]
    total = ["the file", "", "", "", "", str(report.file_bytes),
             percent(report.file_bytes / max(1, report.dense_bytes)),
             f"{report.file_bytes / report.bound:.3f}" if report.bound else ""]
    print_table(report.path, HEADER, [*rows, other, total])
    typer.echo("bound: the entropy of mask and exponents, signs and mantissas as they are")
    if report.lost_zeros:
        typer.echo(f"{report.lost_zeros} kept weights are zero; this layout does not tell them from pruned ones")
