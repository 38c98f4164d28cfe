"""`optprune-fast report`."""

from __future__ import annotations

from json import loads
from pathlib import Path
from typing import Annotated

import typer
from torch import nn

from optprune_fast.cli.loading import CHECKPOINT_HELP, DATA_HELP, FACTORY_HELP, check_fits, load_data, load_model
from optprune_fast.cli.show import Json, print_json, teaching
from optprune_fast.recipe.result import FILE, Result
from optprune_fast.report.write import report as write
from optprune_fast.runtime.errors import message


@teaching
def report(
    results: Annotated[list[Path], typer.Argument(help="Folders with results of `prune`, however deep inside.")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("runs/report"),
    model: Annotated[str | None, typer.Option(help=FACTORY_HELP)] = None,
    checkpoint: Annotated[list[Path] | None, typer.Option(help=f"{CHECKPOINT_HELP} Again for each network.")] = None,
    data: Annotated[str | None, typer.Option(help=f"What the search was given. {DATA_HELP}")] = None,
    validation: Annotated[str | None, typer.Option(help="What `prune` was given as --validation.")] = None,
    json: Json = False,
) -> None:
    """One page about one result or many: what the masks are worth, how the search went, which weights were kept.

    With --model and --data it shows accuracies, on the test part too, and what single small weights are worth.
    """
    found = [Result.load(path) for place in results for path in _files(place)]
    if model is None and (checkpoint or data or validation):
        raise ValueError(message("report", "--checkpoint, --data and --validation need the network",
                                 "give --model module:function"))
    networks: list[nn.Module] | None = None
    if model is not None:
        networks = [load_model(model, path) for path in checkpoint] if checkpoint else [load_model(model, None)]
    samples = None if data is None else load_data(data)
    train, test = (None, None) if samples is None else (samples.train, samples.test)
    judged_by = None if validation is None else load_data(validation).train
    for net in networks or []:
        for name, part in ((data, train), (validation, judged_by)):
            if part is not None:
                check_fits(net, part, str(name))
    page = write(found, out, networks, train, test, validation=judged_by)
    made = loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    if json:
        print_json({"page": str(page), "verdict": made["verdict"], "notes": made["notes"], "results": len(found)})
        return
    for line in (made["verdict"], *made["notes"], f"wrote {page}, pictures, report.json and report.csv beside it"):
        typer.echo(line)


def _files(place: Path) -> list[Path]:
    """The results in a folder, in a stable order, or the file itself."""
    if not place.is_dir():
        return [place]
    found = sorted(place.rglob(FILE))
    if not found:
        raise FileNotFoundError(message("report", f"there is no {FILE} in this folder, nor deeper",
                                        "optprune-fast prune --out writes one", folder=str(place)))
    return found
