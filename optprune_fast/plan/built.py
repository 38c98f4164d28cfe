"""A program in the compiled module's own form."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

from torch import Tensor

from optprune_fast.plan.encoded import encoded
from optprune_fast.plan.program import ACTIVATIONS, OPS, LayerUse, Program, Step
from optprune_fast.plan.spread import spreads

MOST_WIDTH = 8
# Share of kept weights from which multiplying zeros costs less than skipping them: then rows share what they load.
# Measured on AVX2 (Zen 3), step by step at densities of 0.5 to 0.99. Convolutions break even at 0.5 to 0.65 where a
# strip's inputs outgrow the first-level cache (VGG-small, the wider half of ResNet-20), at 0.7 with 16 channels, at
# 0.82 in LeNet-5, which loses up to a tenth in between. Linear layers break even at 0.7 in the MLP; before
# dense rows went by panels, at 0.95 in a transformer, and not at all over the 4096 inputs of VGG-small, where they are
# a twentieth of the network.
DENSE_FROM = {"linear": 0.75, "conv2d": 0.75}


def build(module: ModuleType, program: Program, weights: bool = True) -> tuple[Any, list[Tensor]]:
    """The compiled module's own form of a program, and the tensors whose addresses it holds.

    weights:  whether the layers hold theirs; without, whoever runs a step says where they are
    """
    alive: list[Tensor] = []
    offsets: dict[bytes, Tensor] = {}  # layers of one shape share them

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
        own = layer.offsets.contiguous()
        own = offsets.setdefault(own.numpy().tobytes(), own)
        plan.add_layer(hold(layer.weight if weights else None), *layer.weight.shape, layer.first_word, hold(own),
                       list(layer.consumers), min(registers, MOST_WIDTH), dense_from(step, layer))
    for _, step in program.runs:
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


def address(tensor: Tensor | None) -> int:
    """Where a tensor's numbers are; 0 for none."""
    return 0 if tensor is None else tensor.data_ptr()
