"""What a report can measure anew: the networks and the data that the caller gave."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from optprune_fast.engine.batches import HELD_OUT, Batch, Data, collect, split
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.objective import NAMED, UserObjective
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.recipe.result import Result, weights_digest
from optprune_fast.report.runs import Run
from optprune_fast.runtime.errors import message

NEAR = 0.01  # relative: backends differ by rounding, other data by much more


class Judges:
    """Evaluators of every run on the calibration, the validation and the test part, as far as they can be had.

    A run whose network was not given has none. Where the search held out a part of `data`, it is held out again by
    the run's seed, and the fitness of the run must come out as it was saved.
    """

    def __init__(self, runs: list[Run], model: nn.Module | Iterable[nn.Module] | None, data: Data | None,
                 validation: Data | None, test: Data | None, objective: UserObjective | None) -> None:
        layout = runs[0].result.layout
        self.weights = _networks(runs, layout, model)
        if model is None and not (data is None and validation is None and test is None):
            raise ValueError(message("report", "data without a network cannot be evaluated", "give model= too"))
        self._models = {digest: net for digest, (net, _) in self.weights.items()}
        self._data, self._validation, self._test = (None if part is None else collect(part)
                                                    for part in (data, validation, test))
        self._objective = objective or runs[0].result.objective
        if model is not None and objective is None and self._objective not in NAMED:
            raise ValueError(message("report", "the objective of these results is a function of the caller's",
                                     "give it again: objective=", objective=self._objective))
        self._made: dict[tuple[str, str, int | None], Evaluator] = {}
        for run in runs:
            self._check(run)

    def flat(self, run: Run) -> Tensor | None:
        """float [n]: the weights of the run's network, in layout order; None if it was not given."""
        found = self.weights.get(run.result.base_digest)
        return None if found is None else found[1]

    def on(self, run: Run, part: str) -> Evaluator | None:
        """The evaluator of the run's network on "calibration", "validation" or "test"; None if it cannot be had."""
        result = run.result
        model = self._models.get(result.base_digest)
        if model is None:
            return None
        held = part != "test" and _held_out_of_data(result)
        key = (result.base_digest, part, result.seed if held else None)
        if key not in self._made:
            batches = self._batches(result, part)
            if batches is None:
                return None
            self._made[key] = Evaluator(model, batches, self._objective, layout=result.layout)
        return self._made[key]

    def _batches(self, result: Result, part: str) -> list[Batch] | None:
        if part == "test":
            return self._test
        if not _held_out_of_data(result):
            return self._data if part == "calibration" else self._validation
        if self._data is None:
            return None
        rest, held = split(self._data, HELD_OUT, result.seed)
        return rest if part == "calibration" else held

    def _check(self, run: Run) -> None:
        judge = self.on(run, "validation")
        if judge is None:
            return
        saved, found = run.result.fitness, float(judge(run.result.mask)[0])
        if not abs(found - saved) <= NEAR * max(abs(saved), 1 / judge.samples):
            raise ValueError(message("report", "the mask has another fitness on the held-out samples than was saved: "
                                     "these are not the data of the search, or not in their order",
                                     "give the data that prune was given (not shuffled), or test= alone",
                                     run=run.number, saved=saved, found=found))


def _held_out_of_data(result: Result) -> bool:
    return result.held_out == f"a seeded {HELD_OUT:.0%} of the data"


def _networks(runs: list[Run], layout: MaskLayout,
              model: nn.Module | Iterable[nn.Module] | None) -> dict[str, tuple[nn.Module, Tensor]]:
    if model is None:
        return {}
    found = {}
    for net in [model] if isinstance(model, nn.Module) else model:
        weights = layout.weights_of(net)
        flat = torch.cat([weights[layer.name].detach().flatten().cpu().float() for layer in layout])
        found[weights_digest(weights)] = (net, flat)
    wanted = {run.result.base_digest for run in runs}
    if not wanted & found.keys():
        raise ValueError(message("report", "no result was found for the weights of this network",
                                 "load the original weights, before any fine-tuning",
                                 expected=sorted(digest[:16] for digest in wanted),
                                 found=sorted(digest[:16] for digest in found)))
    return found


def masks_of(result: Result) -> PackedMasks:
    """Three masks: dense, magnitude, and the one that was found."""
    return PackedMasks.cat([PackedMasks.full(result.layout), result.magnitude, result.mask])
