"""What the values of a network take on a device, and so how many samples and candidates go through at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from optprune_fast.engine.chunks import ChunkPlan
from optprune_fast.engine.device_steps import MaskedStep, Step
from optprune_fast.plan.graph import Graph


@dataclass(frozen=True)
class DeviceBytes:
    """own: of one candidate and one sample;   shared: of one sample, for all candidates

    The most that lives at a time: what later steps read, and of a step in torch its inputs and its output once more, as
    candidates that share an input are given a copy each. Nothing here grows with candidates times weights.
    """

    own: int
    shared: int

    @staticmethod
    def of(graph: Graph, steps: Sequence[Step]) -> DeviceBytes:
        size = {value: (8 if value in graph.integers else 4) * torch.Size(shape).numel()
                for value, shape in graph.shapes.items()}
        own = {step.output for step in steps if isinstance(step, MaskedStep) or not step.shared}
        made = {node.output for node in graph.nodes if node.op == "input"}
        last_read = {value: index for index, step in enumerate(steps) for value in step.node.inputs}
        last_read[graph.output] = len(steps)
        most = {True: 0, False: 0}
        for index, step in enumerate(steps):
            made.add(step.output)
            alive = {value for value in made if last_read.get(value, index) >= index}
            extra = 0 if isinstance(step, MaskedStep) else sum(
                size[value] for value in (*step.node.inputs, step.output) if value in size)
            for kind in most:
                most[kind] = max(most[kind], sum(size[value] for value in alive if (value in own) is kind)
                                 + (extra if (step.output in own) is kind else 0))
        return DeviceBytes(max(most[True], size[graph.output]), most[False])

    def plan(self, memory: int, candidates: int, samples: int) -> ChunkPlan:
        """The largest chunk that `memory` bytes hold, samples first.

        >>> DeviceBytes(own=10, shared=5).plan(1000, candidates=64, samples=20)
        ChunkPlan(candidates=4, samples=20)
        """
        at_once = max(1, min(samples, memory // max(1, self.own + self.shared)))
        left = memory - at_once * self.shared
        return ChunkPlan(max(1, min(candidates, left // max(1, at_once * self.own))), at_once)

    def needed(self, plan: ChunkPlan) -> int:
        """Bytes that a chunk takes."""
        return plan.samples * (self.shared + plan.candidates * self.own)
