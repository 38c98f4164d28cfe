"""One program of a whole network, ready to run on so many registers of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from optprune_fast.deploy.held import HeldWeight
from optprune_fast.plan.built import address, build
from optprune_fast.plan.encoded import input_parts
from optprune_fast.plan.program import Program
from optprune_fast.plan.tiles import tiles
from optprune_fast.runtime import native
from optprune_fast.runtime.threads import thread_count


class Runner:
    """weights: of the program's layers; bands: of a sample, 1 where samples are whole; height: of the
    pictures, if such are what is read."""

    def __init__(self, program: Program, weights: Sequence[HeldWeight], bands: int, height: int | None) -> None:
        self._width, self._output_shape = program.width, program.output_shape
        plan, self._alive = build(native.module(), program, weights=False)
        self._network: Any = native.module().Network(plan)
        for weight in weights:
            weight.give(self._network)
        self._alive_weights = weights
        program.layers.clear()  # they have weights, which nobody reads
        self._program = program
        self._picture: int | str | None = None  # the argument that the kernel turns itself
        if height is not None and _is_picture(program):
            (use,) = program.inputs
            channels, rows, columns = use.placed.shape
            self._picture = use.index
            self._network.take_picture(channels, height, columns - 2 * use.padding[1], *use.padding, bands,
                                       rows - 2 * use.padding[0])

    def __call__(self, inputs: Mapping[int | str, Tensor], samples: int, isa: str) -> Tensor:
        """[B, ...]: the outputs. inputs: [B, ...] each; isa: whose registers."""
        out = torch.empty(samples, *self._output_shape)
        if self._picture is not None:
            x = inputs[self._picture].contiguous()
            self._network.run(isa, thread_count(), x.data_ptr(), 0, out.data_ptr(), samples)
            return out
        narrow, wide = input_parts(self._program, inputs, samples, None)
        turned = (None if narrow is None else tiles(isa, narrow, samples, 1, self._width),
                  None if wide is None else tiles(isa, wide, samples, self._width, self._width))
        self._network.run(isa, thread_count(), address(turned[0]), address(turned[1]), out.data_ptr(), samples)
        return out


def _is_picture(program: Program) -> bool:
    """Whether the one input is [C, H, W] in this order, with its border."""
    if len(program.inputs) != 1:
        return False
    placed = program.inputs[0].placed
    return placed.buffer.space == "narrow_input" and len(placed.shape) == 3 and placed.is_contiguous()
