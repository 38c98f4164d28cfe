"""What a search is given by name, and what its masks are worth afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from optprune_fast.cli.loading import check_fits, load_data, load_model
from optprune_fast.data import Dataset, Samples
from optprune_fast.engine.batches import HELD_OUT, Data, collect, split
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.recipe.result import Result


@dataclass(frozen=True)
class Inputs:
    """The network, the data, and the validation data if the user has any."""

    net: nn.Module
    data: Dataset
    validation: Samples | None

    @staticmethod
    def load(model: str, checkpoint: Path | None, data: str, validation: str | None) -> Inputs:
        samples = load_data(data)
        judged_by = None if validation is None else load_data(validation).train
        net = load_model(model, checkpoint)
        check_fits(net, samples.train, data)
        if judged_by is not None:
            check_fits(net, judged_by, str(validation))
        return Inputs(net, samples, judged_by)

    def judge(self, masks: list[PackedMasks], result: Result, backend: str) -> list[dict[str, Any]]:
        """One row a mask. Test data enter here, after the choice, and nowhere else.

        result:  any of the search: its seed and objective are those of all
        """
        held_out: Data
        held_out = split(collect(self.data.train), HELD_OUT, result.seed)[1] if self.validation is None \
            else self.validation
        all_of_them = PackedMasks.cat(masks)
        held = Evaluator(self.net, held_out, result.objective, backend, layout=result.layout).metrics(all_of_them)
        test = None
        if self.data.test is not None:
            test = Evaluator(self.net, self.data.test, backend=backend, layout=result.layout).metrics(all_of_them)
        return [{"kept": int(all_of_them[i].count()), "held_out_loss": float(held["loss"][i]),
                 "held_out_accuracy": float(held["accuracy"][i]),
                 "test_accuracy": None if test is None else float(test["accuracy"][i])} for i in range(len(masks))]
