"""Fitness of the neighbours of one mask on a GPU: the parent runs once for all of them, and a move starts at the first
step whose weights it flips.

    parent's values ─▶ changes of the rows that are flipped ─▶ sums of the next layer, moved ─▶ the steps behind it
    computed once      one kernel for all moves                 one more, with the loss where that follows

Nothing is kept from call to call: all starts from a pass of the parent's own.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from optprune_fast.engine.chunks import ChunkPlan
from optprune_fast.engine.device_bytes import DeviceBytes
from optprune_fast.engine.device_flips import Read, terms_of
from optprune_fast.engine.device_population import DevicePopulation, Inputs, chunks, given
from optprune_fast.engine.device_steps import BACKEND, MaskedStep, Step, Value
from optprune_fast.engine.objective import ordered_sum
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import toggled
from optprune_fast.ops.moved_linear import operation
from optprune_fast.ops.moved_linear.terms import Next, Terms
from optprune_fast.ops.words import unpack
from optprune_fast.runtime.dispatch import calls


def move_sums(population: DevicePopulation, layout: MaskLayout, words: Tensor, moves: Tensor, inputs: Inputs,
              targets: Tensor | None, objective: str) -> Tensor:
    """float64 [M]: sum over samples of the objective, of a mask after each move.

    words: int64 [1, W];   moves: int64 [M, F], flat weight indices, -1 fills
    """
    groups = list(_groups(population, layout, moves))

    def add(plan: ChunkPlan) -> Tensor:
        total = torch.zeros(len(moves), dtype=torch.float64, device=moves.device)
        for _, columns in chunks(ChunkPlan(len(moves), plan.samples), len(moves), inputs.samples):
            wanted = None if targets is None else targets[columns]
            parent = Parent(population, layout, words, inputs.pick(columns), wanted, objective)
            for start, group in groups:
                for some in group.split(plan.candidates):
                    total[some] += parent.sums_after(start, moves[some])
        return total
    return population.within_memory(add, _bytes(population, layout, moves, inputs.samples), len(moves), inputs.samples)


def moved_end(steps: tuple[Step, ...], start: int, output: int) -> int | None:
    """The step whose moved sums are made of differences, for moves that flip weights of step `start` and of none before
    it: that step, if it is linear; or the next one, if that is linear too and alone reads what the step gives.

    output: the value that the network gives
    """
    value = steps[start].output
    readers = [index for index, step in enumerate(steps) if value in step.node.inputs]
    if not _linear(steps[start]):
        return None
    return start + 1 if readers == [start + 1] and _linear(steps[start + 1]) and value != output else start


def _linear(step: Step) -> bool:
    return isinstance(step, MaskedStep) and step.node.op == "linear"


class Parent:
    """The values of one mask on some samples, and the neighbours of the mask, by what their flips change."""

    def __init__(self, population: DevicePopulation, layout: MaskLayout, words: Tensor, inputs: Inputs,
                 targets: Tensor | None, objective: str) -> None:
        self.population, self.layout, self.words = population, layout, words
        self.inputs, self.targets, self.objective = inputs, targets, objective
        self.last = population.last(objective)
        steps = len(population.steps) - (self.last is not None)
        values = population.run(given(inputs), words, inputs.samples, 0, steps, keep=True)
        # From here on it is an input of the network to all moves.
        self.values = {number: Value(x.tensor[0] if x.own else x.tensor, False) for number, x in values.items()}
        self._prepared: dict[int, tuple[Read, Tensor, Tensor]] = {}

    def sums_after(self, start: int, moves: Tensor) -> Tensor:
        """float64 [M]: of moves that flip weights of step `start` and of none before it; of none at all, where there is
        no such step."""
        steps = self.population.steps
        if start == len(steps):
            return self._from(start, self.values, self.words).expand(len(moves))
        index = moved_end(steps, start, self.population.graph.output)
        if index is None:
            return self._from(start, self.values, self._toggled(moves))
        first, end = steps[start], steps[index]
        assert isinstance(first, MaskedStep)
        assert isinstance(end, MaskedStep)
        read, sums, columns = self._prepare(first, end)
        calls[operation.name, BACKEND] += 1
        return self._behind(index, end, sums, columns, terms_of(first, end, read, self.words, moves), moves)

    def _behind(self, index: int, end: MaskedStep, sums: Tensor, columns: Tensor, terms: Terms, moves: Tensor
                ) -> Tensor:
        """From the moved sums of step `index` to the loss."""
        last, kind, kernels = self.last, self.objective, operation.implementation(BACKEND)
        if last is end:
            return ordered_sum(kernels.losses(sums, columns, terms, self._targets, kind))
        words = self._toggled(moves)
        if last is not None and index + 2 == len(self.population.steps) and last.node.inputs[0] == end.output:
            behind = Next(last.weight, last.words(words), last.epilogue.bias, last.precision)
            losses = kernels.next_losses(sums, columns, terms, end.epilogue, behind, self._targets, kind)
            return ordered_sum(losses)
        out = kernels.fused(sums, columns, terms, end.epilogue, end.stored)
        shape = self.values[end.node.inputs[0]].tensor.shape[:-1]
        return self._from(index + 1, {**self.values, end.output: Value(out.unflatten(1, shape), True)}, words)

    def _from(self, step: int, values: dict[int, Value], words: Tensor) -> Tensor:
        return self.population.sums_from(step, values, words, self.inputs, self.targets, self.objective)

    def _prepare(self, first: MaskedStep, end: MaskedStep) -> tuple[Read, Tensor, Tensor]:
        """What all moves from one step read: of `first` sums and inputs, samples fastest; of `end` the sums [B, O] and
        the weight under the parent's mask, turned."""
        if first.output not in self._prepared:
            x = first.rows(self.values[first.node.inputs[0]])
            kept = unpack(end.words(self.words)[0], end.weight.shape[1])
            columns = torch.where(kept, end.weight, 0).T.contiguous()
            sums = end.sums(self.values, self.words)[0]
            read = Read(sums if first is end else first.sums(self.values, self.words)[0].T.contiguous(),
                        x.to(first.weight.dtype).T.contiguous())
            self._prepared[first.output] = read, sums, columns
        return self._prepared[first.output]

    def _toggled(self, moves: Tensor) -> Tensor:
        return toggled(self.layout, self.words, moves)

    @property
    def _targets(self) -> Tensor:
        assert self.targets is not None
        return self.targets


def _groups(population: DevicePopulation, layout: MaskLayout, moves: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(step, numbers of moves) of those that start at a step; one behind the last: moves that no step sees."""
    steps = population.steps
    first: dict[str, int] = {}
    for index, step in enumerate(steps):
        if isinstance(step, MaskedStep):
            first.setdefault(step.layer.name, index)
    begins = torch.tensor([layer.first_weight for layer in layout], device=moves.device)
    # A fill lies before all layers: it finds the last entry.
    table = torch.tensor([*(first.get(layer.name, len(steps)) for layer in layout), len(steps)], device=moves.device)
    start = table[torch.searchsorted(begins, moves.contiguous(), right=True) - 1].amin(1)
    found, counts = start.unique(return_counts=True)
    yield from zip(found.tolist(), start.argsort(stable=True).split(counts.tolist()), strict=True)


def _bytes(population: DevicePopulation, layout: MaskLayout, moves: Tensor, samples: int) -> DeviceBytes:
    """What a move and a sample take: values behind the moved layer, a number for each flip, and words of masks; and a
    sample for all of them: the parent's values, and those that are prepared, turned and not."""
    shapes, plain = population.graph.shapes, population.bytes
    rows = [torch.Size(shapes[step.output][:-1]).numel() for step in population.steps if _linear(step)]  # of a sample
    values = sum(torch.Size(shape).numel() for shape in shapes.values())
    own = plain.own + 4 * moves.shape[1] * max(rows, default=0) + 24 * layout.W // samples
    return DeviceBytes(own, plain.shared + 16 * values)
