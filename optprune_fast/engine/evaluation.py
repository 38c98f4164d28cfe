"""Every candidate on every sample, within the memory that there is."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from optprune_fast.engine import look_up
from optprune_fast.engine.batches import Batch
from optprune_fast.engine.families import distinct
from optprune_fast.engine.passes import Pass
from optprune_fast.engine.snapshot import Snapshot
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import message


class Evaluation(Snapshot):
    """Outputs and fitness of masks that have been checked."""

    def _candidates(self, masks: PackedMasks) -> Iterator[tuple[PackedMasks, slice]]:
        step = self.plan(len(masks)).candidates
        for start in range(0, len(masks), step):
            yield masks[start:start + step], slice(start, start + step)

    def _passes(self, masks: PackedMasks) -> Iterator[Pass]:
        """Every candidate on every sample, in one pass over the data."""
        step, first = self.plan(len(masks)).samples, 0
        for batch in self._on_device():
            for chunk in batch.chunks(step):
                dense = self._dense(chunk) if self.objective.needs_dense else None
                samples = slice(first, first + chunk.size)
                for part, rows in self._candidates(masks):
                    yield Pass(rows, samples, self._outputs(part, chunk), chunk, dense)
                first += chunk.size

    def _outputs_and_targets(self, masks: PackedMasks) -> tuple[Tensor, Tensor | None]:
        """[P, B, …] and [B, …] of all samples."""
        examples = [self._dense(kind.example) for kind in self.batches.kinds]
        shapes = {example.shape[1:] for example in examples}
        if len(shapes) > 1:
            raise ValueError(message("Evaluator.outputs", "samples give outputs of different shapes",
                                     "evaluate batches of one shape", shapes=sorted(map(list, shapes))))
        joined, targets = examples[0].new_empty(len(masks), self.samples, *shapes.pop()), []
        for rows, samples, outputs, batch, _ in self._passes(masks):
            joined[rows, samples] = outputs
            if rows.start == 0 and batch.targets is not None:
                targets.append(batch.targets)
        return joined, torch.cat(targets) if targets else None

    def _outputs(self, masks: PackedMasks, batch: Batch) -> Tensor:
        if self._compiled.ready:
            return self._compiled.outputs(masks.words, batch)
        return self._forward(masks, batch)

    def _each_once(self, masks: PackedMasks, objective: str, parents: PackedMasks | None = None) -> Tensor:
        """Fitness by the plan, without the work that `reuse` avoids."""
        shown = look_up.MANY if self._compiled.lookup else 4
        self._last_masks = masks[:shown] if len(masks) else self._last_masks
        words, place = distinct(masks.words) if "duplicates" in self.reuse else (masks.words, None)
        related = self.reuse & {"prefix", "delta"} and self._compiled.starts_from_parents
        sums = self._hand_over.sums(words, objective, lambda own: (
            self._compiled.sums(own, objective) if not related else self._compiled.sums_from_parents(
                own, objective, None if parents is None else parents.words, exact="delta" not in self.reuse)))
        return ((sums if place is None else sums[place]) / self.samples).to(self.fitness_dtype)

    def _whole(self, masks: PackedMasks) -> Tensor:
        assert self.objective.whole is not None
        fitness = []
        for part, _ in self._candidates(masks):
            outputs, targets = self._outputs_and_targets(part)
            fitness += [float(self.objective.whole(one, targets)) for one in outputs]
        return torch.tensor(fitness, dtype=self.fitness_dtype, device=self._forward.device)

    def _zeros(self, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.float64, device=self._forward.device)
