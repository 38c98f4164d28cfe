"""The native population engine: a program, its inputs turned into tiles, and fitness of packed masks."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan.built import MOST_WIDTH, address, build
from optprune_fast.plan.encoded import input_parts
from optprune_fast.plan.graph import Graph
from optprune_fast.plan.lower import chained, lower
from optprune_fast.plan.program import Program
from optprune_fast.plan.tiles import tiles
from optprune_fast.runtime import native
from optprune_fast.runtime.threads import thread_count

SUM_GROUP = 32
LOSSES = {"outputs": 0, "cross_entropy": 1, "error": 2, "kl_to_dense": 3, "mse_to_dense": 4}


@dataclass(frozen=True)
class Turned:
    """Inputs as tiles of registers of samples."""

    narrow: Tensor | None
    wide: Tensor | None
    samples: int


class Tiled:
    """What the engines share: a program, and inputs turned into tiles for it."""

    program: Program

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.program.output_shape

    def turn(self, args: Mapping[int | str, Tensor], samples: int, dense: Tensor | None) -> Turned:
        """Inputs of `samples` samples, [B, …] each, as tiles."""
        narrow, wide = input_parts(self.program, args, samples, dense)
        return Turned(self._tiles(narrow, samples, 1), self._tiles(wide, samples, self.program.width), samples)

    def _tiles(self, x: Tensor | None, samples: int, width: int) -> Tensor | None:
        """[B, features] in the layout of this engine's tiles, absent samples zero."""
        raise NotImplementedError


class Population(Tiled):
    """One network, compiled for tiles of `width` registers.

    samples:  how many will usually be evaluated: few samples need narrower tiles
    keep:     a tile holds every value, as moves need it
    loss:     False where nobody asks for more than the outputs
    """

    def __init__(self, graph: Graph, layout: MaskLayout, state: Mapping[str, Tensor], samples: int, *,
                 keep: bool = False, loss: bool = True) -> None:
        self.isa = native.isa()
        self.lanes = native.module().population_lanes(self.isa)
        width = max(1, min(MOST_WIDTH, -(-samples // self.lanes)))
        self.layout = layout
        self.chained = chained(graph)
        self.program = lower(graph, layout, state, width, reuse=not keep, apart=self.chained if keep else 0, loss=loss,
                             in_place=not keep, turns=not keep)
        self._plan, self._alive = build(native.module(), self.program)
        self._looks_up = False

    @cached_property
    def together(self) -> int:
        """How many candidates share a table where the first layer goes by look-up; 0 where it cannot."""
        answer: int = native.module().look_up_together(self.isa, self._plan)
        return answer

    @cached_property
    def by_look_up(self) -> Population:
        """The same network with its first layer by table look-up."""
        assert self.together
        other = copy(self)
        other._looks_up = True
        return other

    def _tiles(self, x: Tensor | None, samples: int, width: int) -> Tensor | None:
        return None if x is None else tiles(self.isa, x, samples, width, self.program.width)

    def sums(self, words: Tensor, turned: Turned, targets: Tensor | None, objective: str) -> Tensor:
        """float64 [P]: sum over samples of the objective. words: int64 [P, W]."""
        groups = -(-turned.samples // SUM_GROUP)
        sums = torch.zeros(len(words), groups, dtype=torch.float64)
        self._run(words, turned, targets, sums, None, objective)
        return sums.cumsum(1)[:, -1] if groups else sums.sum(1)

    def move_sums(self, words: Tensor, moves: Tensor, turned: Turned, targets: Tensor | None, objective: str, *,
                  exact: bool = False) -> Tensor:
        """float64 [M]: the same for the neighbours of one mask, each from what its flips reach.

        words: int64 [1, W];   moves: int64 [M, F], flat weight indices, -1 fills
        exact: the bits of `sums`; else linear layers in a chain spread differences, which are fewer, and round
        """
        groups = -(-turned.samples // SUM_GROUP)
        parent, sums = torch.zeros(1, groups, dtype=torch.float64), torch.zeros(len(moves), groups, dtype=torch.float64)
        first = {layer.name: layer.first_weight for layer in self.layout}
        starts = torch.tensor([first.get(layer.name, -1) for layer in self.program.layers])
        moves, layers = moves.contiguous(), len(self.program.layers)
        native.module().moves(
            self.isa, thread_count(), self._plan, address(turned.narrow), address(turned.wide), address(targets),
            words.data_ptr(), parent.data_ptr(), starts.data_ptr(), moves.data_ptr(), *moves.shape, sums.data_ptr(),
            turned.samples, LOSSES[objective], layers if exact else layers - self.chained)
        return sums.cumsum(1)[:, -1]

    @property
    def sloped(self) -> bool:
        """Whether moves go through the last two layers by slopes (csrc/kernels/moves/slopes.h)."""
        answer: bool = native.module().moves_have_slopes(self._plan, len(self.program.layers) - self.chained)
        return answer

    def outputs(self, words: Tensor, turned: Turned) -> Tensor:
        """float32 [P, B, …]: the network's outputs."""
        out = torch.empty(len(words), turned.samples, *self.program.output_shape)
        self._run(words, turned, None, None, out, "outputs")
        return out

    def seconds(self, words: Tensor, turned: Turned, objective: str, targets: Tensor | None) -> Tensor:
        """float64 [steps]: wall time of each step of the program for these masks, on one thread."""
        sums = torch.zeros(len(words), -(-turned.samples // SUM_GROUP), dtype=torch.float64)
        spent = torch.zeros(len(self.program.runs), dtype=torch.float64)
        outputs = torch.empty(len(words), turned.samples, *self.program.output_shape)
        self._run(words, turned, targets, sums, outputs, objective, spent)
        step_of = torch.tensor([step for step, _ in self.program.runs])
        return torch.zeros(len(self.program.steps), dtype=torch.float64).index_add(0, step_of, spent)

    def _run(self, words: Tensor, turned: Turned, targets: Tensor | None, sums: Tensor | None, outputs: Tensor | None,
             objective: str, seconds: Tensor | None = None) -> None:
        native.module().population(
            self.isa, thread_count() if seconds is None else 1, self._plan, address(turned.narrow),
            address(turned.wide), address(targets),
            words.data_ptr(), words.stride(0), address(sums), address(outputs), len(words), turned.samples,
            LOSSES[objective], address(seconds), self._looks_up)
