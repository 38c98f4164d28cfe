"""A network of which torch runs some parts, between those of the native engine.

    shared ──▶ together ──▶ each ─ … ─▶ last part: the objective        for some samples, and for some candidates
    once       [p, B, …]    one candidate at a time

Torch runs one candidate at a time as well: results then do not depend on how many others there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from optprune_fast.engine.objective import NAMED, ordered_sum
from optprune_fast.engine.part_bytes import PartBytes
from optprune_fast.engine.population import Population, Turned
from optprune_fast.plan import reference
from optprune_fast.plan.graph import Graph
from optprune_fast.plan.segments import Part, Stage

if TYPE_CHECKING:
    from optprune_fast.engine.numba_population import NumbaPopulation

Values = dict[int, Tensor]  # value id of the whole graph -> [B, …]


@dataclass(frozen=True)
class Inputs:
    """What a call is given: inputs as values of the graph, and what the dense network gives, [B, …] each."""

    values: Values
    samples: int
    dense: Tensor | None

    def pick(self, some: slice) -> Inputs:
        values = {value: x[some] for value, x in self.values.items()}
        size = len(range(self.samples)[some])
        return Inputs(values, size, None if self.dense is None else self.dense[some])


class Mixed:
    """One network in parts; called as a `Population` is.

    memory:   bytes that values between parts may take
    build:    makes the program of a native part, and whether that is the last
    """

    def __init__(self, graph: Graph, parts: tuple[Part, ...], state: Mapping[str, Tensor], memory: int,
                 build: Callable[[Graph, bool], Population | NumbaPopulation]) -> None:
        self.graph, self.parts, self.state = graph, parts, state
        self.last = parts[-1]
        self.programs = {part: build(part.graph, part is self.last) for part in parts if part.native}
        self.bytes = PartBytes.of(graph, parts, memory)
        self._constants = {part: part.graph.constants(state) for part in parts if not part.native}
        last_reader = {value: part for part in parts for value in part.inputs}
        self._dead = {part: [value for value in part.inputs if last_reader[value] is part] for part in parts}
        self._spent: dict[Part, float] = {}

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.graph.shapes[self.graph.output]

    def turn(self, args: Mapping[int | str, Tensor], samples: int, dense: Tensor | None) -> Inputs:
        """Inputs of `samples` samples, [B, …] each, for `sums` and `outputs`."""
        given = {node.output: args[node.attributes["index"]] for node in self.graph.nodes if node.op == "input"}
        return Inputs(given, samples, dense)

    def sums(self, words: Tensor, inputs: Inputs, targets: Tensor | None, objective: str) -> Tensor:
        """float64 [P]: sum over samples of the objective. words: int64 [P, W]."""
        total = torch.zeros(len(words), dtype=torch.float64)
        for rows, columns, values, some in self._until_last(words, inputs):
            wanted = None if targets is None else targets[columns]
            with self._timed(self.last):
                if self.last in self.programs:
                    program = self.programs[self.last]
                    total[rows] += program.sums(words[rows], self._turned(self.last, values, some), wanted, objective)
                else:
                    outputs = self._in_torch(self.last, values)[self.graph.output]
                    total[rows] += ordered_sum(NAMED[objective].per_sample(outputs[None], wanted, some.dense))
        return total

    def outputs(self, words: Tensor, inputs: Inputs) -> Tensor:
        """float32 [P, B, …]: the network's outputs."""
        out = torch.empty(len(words), inputs.samples, *self.output_shape)
        for rows, columns, values, some in self._until_last(words, inputs):
            with self._timed(self.last):
                if self.last in self.programs:
                    program = self.programs[self.last]
                    out[rows, columns] = program.outputs(words[rows], self._turned(self.last, values, some))
                else:
                    out[rows, columns] = self._in_torch(self.last, values)[self.graph.output]
        return out

    def seconds(self, words: Tensor, inputs: Inputs, objective: str, targets: Tensor | None) -> Tensor:
        """float64 [parts]: wall time of each part for these masks, its inputs' way into tiles included."""
        self._spent = {}
        if objective == "outputs":
            self.outputs(words, inputs)
        else:
            self.sums(words, inputs, targets, objective)
        return torch.tensor([self._spent.get(part, 0.0) for part in self.parts], dtype=torch.float64)

    @contextmanager
    def _timed(self, part: Part) -> Iterator[None]:
        began = perf_counter()
        yield
        self._spent[part] = self._spent.get(part, 0.0) + perf_counter() - began

    def _until_last(self, words: Tensor, inputs: Inputs) -> Iterator[tuple[slice, slice, Values, Inputs]]:
        """(candidates, samples, what the last part reads, inputs of these samples), after all other parts.

        Samples are cut alike for any number of candidates.
        """
        at_once = self.bytes.samples_at_once(inputs.samples)
        for start in range(0, inputs.samples if len(words) else 0, at_once):
            columns = slice(start, min(start + at_once, inputs.samples))
            some = inputs.pick(columns)
            shared = self._run("shared", words[:1], dict(some.values), some)
            if self.last.stage == "together":
                yield slice(0, len(words)), columns, shared, some
            else:
                for rows, values in self._candidates(words, shared, some):
                    yield rows, columns, self._run("each", words[rows], values, some), some

    def _candidates(self, words: Tensor, shared: Values, some: Inputs) -> Iterator[tuple[slice, Values]]:
        """(one candidate, its values after the parts that run for many candidates at once)."""
        parts = [part for part in self.parts if part.stage == "together"]
        turned = []
        for part in parts:
            with self._timed(part):
                turned.append(self._turned(part, shared, some))
        step = self.bytes.candidates_at_once(some.samples)
        for start in range(0, len(words), step):
            chunk = words[start:start + step]
            found = []
            for part, tiles in zip(parts, turned, strict=True):
                with self._timed(part):
                    found.append(self.programs[part].outputs(chunk, tiles))
            for row in range(len(chunk)):
                own = dict(shared)
                for part, outputs in zip(parts, found, strict=True):
                    own.update(self._apart(part, outputs[row]))
                yield slice(start + row, start + row + 1), own

    def _run(self, stage: Stage, words: Tensor, values: Values, some: Inputs) -> Values:
        """The values after the parts of a stage, the last part of all left out. words: int64 [1, W]."""
        for part in self.parts[:-1]:
            if part.stage == stage:
                with self._timed(part):
                    values.update(self._one(part, words, values, some))
                if stage == "each":
                    for value in self._dead[part]:
                        values.pop(value)
        return values

    def _one(self, part: Part, words: Tensor, values: Values, some: Inputs) -> Values:
        if part not in self.programs:
            found = self._in_torch(part, values)
            return {value: found[value] for value in part.outputs}
        return self._apart(part, self.programs[part].outputs(words, self._turned(part, values, some))[0])

    def _turned(self, part: Part, values: Values, some: Inputs) -> Turned:
        given: dict[int | str, Tensor] = {index: values[value] for index, value in enumerate(part.inputs)}
        return self.programs[part].turn(given, some.samples, some.dense if part is self.last else None)

    def _in_torch(self, part: Part, values: Values) -> Values:
        given = tuple(values[value] for value in part.inputs)
        return reference.values(part.graph, self.state, given, {}, constants=self._constants[part])

    def _apart(self, part: Part, outputs: Tensor) -> Values:
        """The values that a native part gives, which has them side by side. outputs: [B, …] of one candidate."""
        if len(part.outputs) == 1:
            return {part.outputs[0]: outputs}
        shapes = [self.graph.shapes[value] for value in part.outputs]
        pieces = outputs.split([torch.Size(shape).numel() for shape in shapes], dim=1)
        return {value: piece.unflatten(1, shape) if shape else piece[:, 0]
                for value, piece, shape in zip(part.outputs, pieces, shapes, strict=True)}
