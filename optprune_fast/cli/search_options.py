"""Options that `prune` and `sweep` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optprune_fast.cli.loading import CHECKPOINT_HELP, DATA_HELP, FACTORY_HELP
from optprune_fast.ops.precision import PRECISIONS
from optprune_fast.search import STRATEGIES

Model = Annotated[str, typer.Argument(help=FACTORY_HELP)]
Data = Annotated[str, typer.Option(help=DATA_HELP)]
Checkpoint = Annotated[Path | None, typer.Option(help=CHECKPOINT_HELP)]
StrategyName = Annotated[str, typer.Option(help=f"auto, {', '.join(STRATEGIES)}.")]
Small = Annotated[float | None, typer.Option(help="Share of the kept weights that the search chooses.")]
Pool = Annotated[float | None, typer.Option(help="Fraction of all weights to choose from, past rank k.")]
Evaluations = Annotated[int | None, typer.Option(help="Candidates to evaluate a sparsity; alone, a seed repeats.")]
TimeLimit = Annotated[float | None, typer.Option(help="Seconds a sparsity; 60 if --evaluations is not given.")]
Seed = Annotated[int, typer.Option(help="Of the held-out part and of the search.")]
Objective = Annotated[str, typer.Option(help="cross_entropy, error, kl_to_dense, mse_to_dense.")]
LogitScale = Annotated[float | None, typer.Option(help="Of the logits in cross-entropy; found if not given.")]
Backend = Annotated[str, typer.Option(help="auto, cuda, triton, native, numba or torch.")]
Precision = Annotated[str, typer.Option(help=f"How the search multiplies, on triton: {', '.join(PRECISIONS)}.")]
Validation = Annotated[str | None, typer.Option(help="Data to select by; else 10 % of the train part.")]
