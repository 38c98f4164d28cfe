"""The native population engine: a program, its inputs turned into tiles, and fitness of packed masks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan.graph import Graph
from optprune_fast.plan.lower import chained, lower
from optprune_fast.plan.placed import Placed, order_of
from optprune_fast.plan.program import ACTIVATIONS, OPS, SPACES, LayerUse, Program, Step
from optprune_fast.plan.spread import spreads
from optprune_fast.runtime import native
from optprune_fast.runtime.threads import thread_count

MOST_WIDTH = 8
SUM_GROUP = 32
# Their kernels work on the last dimensions, so the width comes first.
REDUCING = {"mean", "softmax", "log_softmax", "layer_norm", "matmul"}
# Share of kept weights from which multiplying zeros costs less than skipping them: then rows share what they load.
# Measured on AVX2 (Zen 3), step by step at densities of 0.5 to 0.99. Convolutions break even at 0.5 to 0.65 where a
# strip's inputs outgrow the first-level cache (VGG-small, the wider half of ResNet-20), at 0.7 with 16 channels, at
# 0.82 in LeNet-5, which loses up to a tenth in between. Linear layers break even at 0.7 in the MLP; before
# dense rows went by panels, at 0.95 in a transformer, and not at all over the 4096 inputs of VGG-small, where they are
# a twentieth of the network.
DENSE_FROM = {"linear": 0.75, "conv2d": 0.75}
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
        self.program = lower(graph, layout, state, width, reuse=not keep, apart=self.chained if keep else 0, loss=loss)
        self._plan, self._alive = build(native.module(), self.program)

    def _tiles(self, x: Tensor | None, samples: int, width: int) -> Tensor | None:
        if x is None:
            return None
        tile = self.program.width * self.lanes
        out = torch.empty(-(-samples // tile) * tile * x.shape[1])
        native.module().population_turn(self.isa, thread_count(), x.data_ptr(), samples, x.shape[1], width,
                                        out.data_ptr())
        return out

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
            self.isa, thread_count(), self._plan, _address(turned.narrow), _address(turned.wide), _address(targets),
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
        spent = torch.zeros(len(self.program.steps), dtype=torch.float64)
        outputs = torch.empty(len(words), turned.samples, *self.program.output_shape)
        self._run(words, turned, targets, sums, outputs, objective, spent)
        return spent

    def _run(self, words: Tensor, turned: Turned, targets: Tensor | None, sums: Tensor | None, outputs: Tensor | None,
             objective: str, seconds: Tensor | None = None) -> None:
        native.module().population(
            self.isa, thread_count() if seconds is None else 1, self._plan, _address(turned.narrow),
            _address(turned.wide), _address(targets),
            words.data_ptr(), words.stride(0), _address(sums), _address(outputs), len(words), turned.samples,
            LOSSES[objective], _address(seconds))


def input_parts(program: Program, args: Mapping[int | str, Tensor], samples: int,
                dense: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """[B, features] of the narrow and of the wide inputs, pictures with their borders; None where there are none."""
    parts: dict[str, list[Tensor]] = {"narrow_input": [], "wide_input": []}
    for use in program.inputs:
        size = use.placed.buffer.size
        if use.index == "dense":
            x = torch.zeros(samples, size) if dense is None else dense.reshape(samples, size)
        else:
            pad_y, pad_x = use.padding
            x = args[use.index].to(torch.float32)
            x = F.pad(x, (pad_x, pad_x, pad_y, pad_y)) if use.padding != (0, 0) else x
            x = x.permute(0, *(d + 1 for d in order_of(use.placed))).reshape(samples, size)
        parts[use.placed.buffer.space].append(x)
    narrow, wide = (None if not some else some[0].contiguous() if len(some) == 1 else torch.cat(some, dim=1)
                    for some in parts.values())
    return narrow, wide


def build(module: ModuleType, program: Program) -> tuple[Any, list[Tensor]]:
    """The compiled module's own form of a program, and the tensors whose addresses it holds."""
    alive: list[Tensor] = []

    def hold(tensor: Tensor | None) -> int:
        if tensor is None:
            return 0
        alive.append(tensor)
        return tensor.data_ptr()

    plan = module.Plan(program.width, program.sizes["narrow"], program.sizes["wide"] * program.width,
                       program.sizes["narrow_input"], program.sizes["wide_input"] * program.width)
    steps = {step.layer: step for step in program.steps if step.layer >= 0}
    for index, layer in enumerate(program.layers):
        step = steps[index]
        registers = layer.positions * (1 if step.narrow else program.width) if step.op == "linear" else 0
        plan.add_layer(hold(layer.weight), *layer.weight.shape, layer.first_word, hold(layer.offsets.contiguous()),
                       list(layer.consumers), min(registers, MOST_WIDTH), dense_from(step, layer))
    for step in program.steps:
        kind, parameters = step.activation
        plan.add_step(OPS.index(step.op), step.narrow, step.layer, ACTIVATIONS.index(kind),
                      [*parameters, 0.0, 0.0][:2], hold(step.bias), hold(step.extra), list(step.numbers),
                      *encoded(step, program))
    for units, links in spreads(program):
        plan.add_spread(units, links)
    return plan, alive


def dense_from(step: Step, layer: LayerUse) -> float:
    """Share of kept weights from which the kernel multiplies dropped ones as zeros; infinite where it never does."""
    alone = step.op == "conv2d" and layer.weight.shape[0] == step.numbers[2]  # no other row reads the same inputs
    return math.inf if alone else DENSE_FROM[step.op]


def encoded(step: Step, program: Program) -> list[list[int]]:
    """out, a, b as the kernel reads them; b is a where there is none."""
    first = step.op in REDUCING
    out, a, b = (None if p is None else _encode(p, program.width, first) for p in (step.out, step.a, step.b))
    assert out is not None
    assert a is not None
    if step.op == "widen":  # written one register of samples at a time
        rank = out[2]
        out = [out[0], out[1], rank - 1, *out[3:2 + rank], *out[3 + rank:-1]]
    if step.op == "linear":  # positions and width are one run of registers
        out, a = _flat_run(out), _flat_run(a)
    return [out, a, a if b is None else b]


def _encode(placed: Placed, width: int, width_first: bool) -> list[int]:
    """[space, offset, rank, shape, stride]; a wide tensor has its registers of samples as one more dimension."""
    shape, strides, offset = list(placed.shape), list(placed.strides), placed.buffer.offset + placed.offset
    more = (1, 0) if placed.buffer.space == "constant" else (width, 1)
    if placed.narrow:
        shape, strides = shape or [1], strides or [1]
    else:
        scale = 1 if placed.buffer.space == "constant" else width
        strides, offset = [s * scale for s in strides], offset * scale
        place = 0 if width_first else len(shape)
        shape.insert(place, more[0])
        strides.insert(place, more[1])
    return [SPACES.index(placed.buffer.space), offset, len(shape), *shape, *strides]


def _flat_run(tensor: list[int]) -> list[int]:
    rank = tensor[2]
    shape, strides = tensor[3:3 + rank], tensor[3 + rank:]
    if rank == 2:
        return tensor
    return [tensor[0], tensor[1], 2, shape[0], shape[1] * shape[2], strides[0], 1]


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
