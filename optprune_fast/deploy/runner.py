"""One program of a whole network, ready to run on so many registers of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from optprune_fast.deploy.held import HeldWeight
from optprune_fast.plan.built import address, build
from optprune_fast.plan.encoded import input_parts
from optprune_fast.plan.program import Program
from optprune_fast.plan.tiles import tiles
from optprune_fast.runtime import native
from optprune_fast.runtime.threads import thread_count


class Runner:
    """weights: of the program's layers; bands: of a sample, 1 where samples are whole."""

    def __init__(self, program: Program, weights: Sequence[HeldWeight], bands: int) -> None:
        self._bands, self._width, self._output_shape = bands, program.width, program.output_shape
        plan, self._alive = build(native.module(), program, weights=False)
        self._network: Any = native.module().Network(plan)
        for weight in weights:
            weight.give(self._network)
        self._alive_weights = weights
        program.layers.clear()  # they have weights, which nobody reads
        self._program = program

    def __call__(self, inputs: Mapping[int | str, Tensor], samples: int) -> Tensor:
        """[B, ...]: the outputs. inputs: [B, ...] each."""
        isa, entries = native.isa(), samples * self._bands
        if self._bands > 1:
            inputs = {index: self._cut(x) for index, x in inputs.items()}
        narrow, wide = input_parts(self._program, inputs, entries, None)
        turned = (None if narrow is None else tiles(isa, narrow, entries, 1, self._width),
                  None if wide is None else tiles(isa, wide, entries, self._width, self._width))
        out = torch.empty(samples, *self._output_shape)
        self._network.run(isa, thread_count(), address(turned[0]), address(turned[1]), out.data_ptr(), samples)
        return out

    def _cut(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B * bands, C, h, W], zeros below."""
        (use,) = self._program.inputs
        rows = use.placed.shape[1] - 2 * use.padding[0]
        B, C, H, W = x.shape
        x = F.pad(x, (0, 0, 0, self._bands * rows - H)).view(B, C, self._bands, rows, W)
        return x.transpose(1, 2).reshape(B * self._bands, C, rows, W)
