"""The population engine on a GPU: the steps of a network for as many candidates as memory holds, and fitness.

The same code runs on CPU tensors in Triton's interpreter, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from optprune_fast.engine.chunks import ChunkPlan
from optprune_fast.engine.device_bytes import DeviceBytes
from optprune_fast.engine.device_replay import Arena, Replays, room_for
from optprune_fast.engine.device_steps import FUSED_LOSSES, MaskedStep, Value, narrow_values, steps_of
from optprune_fast.engine.objective import NAMED, ordered_sum
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.ops.precision import PRECISIONS
from optprune_fast.plan.graph import Graph
from optprune_fast.plan.recipe import float_dtype, raw
from optprune_fast.runtime.errors import message

# Multiply-adds a step under which a generation is one CUDA graph: tensor cores should do about as many while the host
# launches a kernel. An assumption, which nobody has timed.
SMALL = 2 * 10**9
# Of the budget, where a generation may be one: graphs keep their values from call to call.
GRAPH_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs of a call as values of the graph, and what the dense network gives, [B, …] each, on the device."""

    values: dict[int, Tensor]
    samples: int
    dense: Tensor | None
    replays: Replays

    def pick(self, some: slice) -> Inputs:
        dense = None if self.dense is None else self.dense[some]
        values = {value: x[some] for value, x in self.values.items()}
        return replace(self, values=values, samples=some.stop - some.start, dense=dense)


class DevicePopulation:
    """One network; called as a `Population` is.

    memory:     bytes of values that a chunk and the graphs may take; halved where the device has less
    precision:  how masked layers multiply
    arena:      where graphs live
    """

    def __init__(self, graph: Graph, layout: MaskLayout, state: Mapping[str, Tensor], memory: int, precision: str,
                 arena: Arena) -> None:
        self.graph, self.state, self.memory, self.precision, self.arena = graph, state, memory, precision, arena
        self._mask_bytes = 8 * layout.W
        self.steps = steps_of(graph, layout, state, precision)
        self.bytes = DeviceBytes.of(graph, self.steps)
        self.device = next(iter(state.values())).device
        self._constants = graph.constants(state)
        self._narrow = narrow_values(graph, {layer.name: layer for layer in layout}, precision)
        last_reader = {value: index for index, step in enumerate(self.steps) for value in step.node.inputs}
        self._dead: dict[int, list[int]] = {}
        for value, index in last_reader.items():
            if value != graph.output and value not in self._constants:
                self._dead.setdefault(index, []).append(value)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.graph.shapes[self.graph.output]

    def turn(self, args: Mapping[int | str, Tensor], samples: int, dense: Tensor | None) -> Inputs:
        """Inputs of `samples` samples, [B, …] each, on the device, for `sums` and `outputs`."""
        dtype, values = float_dtype(self.state), {}
        for node in self.graph.nodes:
            if node.op == "input":
                stored = PRECISIONS[self.precision].dtype if node.output in self._narrow else dtype
                values[node.output] = raw(args[node.attributes["index"]].to(self.device), stored)
        return Inputs(values, samples, dense, Replays(self.arena))

    def sums(self, words: Tensor, inputs: Inputs, targets: Tensor | None, objective: str) -> Tensor:
        """float64 [P]: sum over samples of the objective. words: int64 [P, W]."""
        def add(plan: ChunkPlan) -> Tensor:
            if self.replayed(len(words), inputs.samples):
                return inputs.replays.sums(
                    words, objective, lambda some: self._chunk_sums(some, inputs, targets, objective))
            total = torch.zeros(len(words), dtype=torch.float64, device=words.device)
            for rows, columns in chunks(plan, len(words), inputs.samples):
                wanted = None if targets is None else targets[columns]
                total[rows] += self._chunk_sums(words[rows], inputs.pick(columns), wanted, objective)
            return total
        return self.within_memory(add, self.bytes, len(words), inputs.samples)

    def outputs(self, words: Tensor, inputs: Inputs) -> Tensor:
        """float32 [P, B, …]: the network's outputs."""
        def collect(plan: ChunkPlan) -> Tensor:
            out = torch.empty(len(words), inputs.samples, *self.output_shape, device=words.device)
            for rows, columns in chunks(plan, len(words), inputs.samples):
                out[rows, columns] = self._outputs(words[rows], inputs.pick(columns))
            return out
        return self.within_memory(collect, self.bytes, len(words), inputs.samples)

    def last(self, objective: str) -> MaskedStep | None:
        """The step that gives this objective in the place of outputs, if there is one."""
        step = self.steps[-1]
        if not isinstance(step, MaskedStep):
            return None
        fits = step.output == self.graph.output and step.has_loss(self.output_shape)
        return step if fits and objective in FUSED_LOSSES else None

    def plan(self, candidates: int, samples: int) -> ChunkPlan:
        """How many go through at once, launched step by step. What is in graphs by now does not matter: results would
        depend, within rounding, on what was asked before."""
        return self.bytes.plan(self.chunk_memory, candidates, samples)

    def replayed(self, candidates: int, samples: int) -> bool:
        """Whether a generation goes as one CUDA graph: small, all at once within the graphs' part of the budget, and
        nothing in it unknown to us."""
        room = room_for(candidates)
        kept = self.bytes.needed(ChunkPlan(room, samples)) + room * self._mask_bytes
        return (candidates > 0 and self.arena.able and kept <= self.graph_memory
                and self.multiply_adds * room * samples < SMALL * len(self.steps))

    @property
    def chunk_memory(self) -> int:
        """The part of the budget that graphs leave."""
        return self.memory - self.graph_memory

    @property
    def graph_memory(self) -> int:
        """The graphs' part of the budget, where this network may have any."""
        known = all(step.node.op != "torch" for step in self.steps)
        return int(GRAPH_SHARE * self.memory) if known and self.arena.capture is not None else 0

    @property
    def multiply_adds(self) -> int:
        """Of the masked layers, for one candidate and one sample."""
        masked = (step for step in self.steps if isinstance(step, MaskedStep))
        return sum(step.weight[0].numel() * torch.Size(self.graph.shapes[step.node.output]).numel() for step in masked)

    def _chunk_sums(self, words: Tensor, inputs: Inputs, targets: Tensor | None, objective: str) -> Tensor:
        return self.sums_from(0, given(inputs), words, inputs, targets, objective)

    def sums_from(self, first: int, values: Mapping[int, Value], words: Tensor, inputs: Inputs, targets: Tensor | None,
                  objective: str) -> Tensor:
        """float64 [P]: sum over samples of the objective, by the steps from `first` on; values: what is before them."""
        last = self.last(objective)
        if last is None:
            outputs = self._outputs_from(first, values, words, inputs.samples)
            return ordered_sum(NAMED[objective].per_sample(outputs, targets, inputs.dense))
        assert targets is not None
        values = self.run(values, words, inputs.samples, first, len(self.steps) - 1)
        return ordered_sum(last.losses(values, words, targets, objective))

    def _outputs(self, words: Tensor, inputs: Inputs) -> Tensor:
        return self._outputs_from(0, given(inputs), words, inputs.samples)

    def _outputs_from(self, first: int, values: Mapping[int, Value], words: Tensor, samples: int) -> Tensor:
        out = self.run(values, words, samples, first, len(self.steps))[self.graph.output]
        return out.tensor if out.own else out.tensor.expand(len(words), *out.tensor.shape)

    @torch.inference_mode()
    def run(self, values: Mapping[int, Value], words: Tensor, samples: int, first: int, end: int, *, keep: bool = False
            ) -> dict[int, Value]:
        """The values that are alive after the steps from `first` to `end`; with `keep`, all. values: those before."""
        values = dict(values)
        for index, step in enumerate(self.steps[first:end], first):
            if isinstance(step, MaskedStep):
                values[step.output] = step(values, words)
            elif step.output not in values or not step.shared:
                values[step.output] = step(values, self._constants, self.state, len(words), samples)
            for value in () if keep else self._dead.get(index, ()):
                del values[value]
        return values

    def within_memory(self, work: Callable[[ChunkPlan], Tensor], size: DeviceBytes, candidates: int, samples: int
                      ) -> Tensor:
        """`work` in the largest chunks that the device has room for, without graphs before smaller ones; the budget
        stays as it was found.

        size: of what a chunk takes
        """
        while True:
            plan = size.plan(self.chunk_memory, candidates, samples)
            try:
                return self.arena.first_to_go(work, plan)
            except torch.OutOfMemoryError as error:
                if plan == ChunkPlan(1, 1):
                    raise MemoryError(self._too_large(size, candidates)) from error
            self.memory = size.needed(plan) // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _too_large(self, size: DeviceBytes, candidates: int) -> str:
        seen = {"one_candidate_on_one_sample": size.needed(ChunkPlan(1, 1)), "candidates": candidates,
                "weights": sum(tensor.nbytes for tensor in self.state.values())}
        if self.device.type == "cuda":
            seen["free"], seen["memory"] = torch.cuda.mem_get_info(self.device)
        return message("Evaluator", "the device has no memory for one candidate on one sample (numbers are bytes)",
                       "free what other tensors hold, evaluate fewer masks in a call, or use a CPU: backend='native'",
                       **seen)


def given(inputs: Inputs) -> dict[int, Value]:
    """The inputs as values that the candidates share."""
    return {value: Value(x, False) for value, x in inputs.values.items()}


def chunks(plan: ChunkPlan, candidates: int, samples: int) -> Iterator[tuple[slice, slice]]:
    """(candidates, samples) of each chunk, candidates fastest.

    >>> [(r.stop, c.stop) for r, c in chunks(ChunkPlan(2, 5), candidates=3, samples=5)]
    [(2, 5), (3, 5)]
    """
    for first in range(0, samples if candidates else 0, plan.samples):
        for row in range(0, candidates, plan.candidates):
            yield (slice(row, min(row + plan.candidates, candidates)),
                   slice(first, min(first + plan.samples, samples)))
