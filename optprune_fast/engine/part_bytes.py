"""What the values of a network in parts take, and so how many samples and candidates go through at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from optprune_fast.engine.batches import GROUP
from optprune_fast.plan.graph import Graph
from optprune_fast.plan.segments import Part


@dataclass(frozen=True)
class PartBytes:
    """Bytes of one sample, within a budget of `memory`.

    shared:    of what all candidates read
    together:  of what a candidate has after the parts that run for many candidates at once
    each:      of the most that the other parts have at a time, for the one candidate that is under way
    """

    memory: int
    shared: int
    together: int
    each: int

    @staticmethod
    def of(graph: Graph, parts: tuple[Part, ...], memory: int) -> PartBytes:
        def size(values: Iterable[int], shapes: dict[int, tuple[int, ...]]) -> int:
            return sum((8 if value in graph.integers else 4) * torch.Size(shapes[value]).numel() for value in values)

        def inside(part: Part) -> int:
            """Of a native part, its inputs as tiles; in torch, every step's result lives until the part is done."""
            return size(part.inputs if part.native else part.graph.shapes.keys() - set(part.outputs), part.graph.shapes)

        inputs = [node.output for node in graph.nodes if node.op == "input"]
        of_stage = {stage: [part for part in parts if part.stage == stage] for stage in ("shared", "together", "each")}
        made = {stage: [value for part in some for value in part.outputs] for stage, some in of_stage.items()}
        shared = size((*inputs, *made["shared"]), graph.shapes) + sum(inside(part) for part in of_stage["together"])
        shared += max(map(inside, of_stage["shared"]), default=0)
        last_reader = {value: index for index, part in enumerate(parts) for value in part.inputs}
        peak = 0
        for index, part in enumerate(parts):
            if part.stage == "each":
                alive = [value for value in made["each"] if last_reader.get(value, -1) >= index]
                started = [value for other in parts[:index + 1] for value in other.outputs]
                held = set(alive).intersection(started) | set(part.outputs)
                peak = max(peak, size(held, graph.shapes) + inside(part))
        return PartBytes(memory, shared, size(made["together"], graph.shapes), peak)

    def samples_at_once(self, samples: int) -> int:
        """As many as one candidate's values allow, whole tiles where possible."""
        most = max(1, self.memory // max(1, self.shared + self.together + self.each))
        return min(samples, most if most < GROUP else most // GROUP * GROUP)

    def candidates_at_once(self, samples: int) -> int:
        """As many as the rest of the budget holds, of `samples` samples each."""
        left = self.memory - samples * (self.shared + self.each)
        return max(1, left // max(1, samples * self.together))
