"""The population engine in Numba: what the native one computes, for machines without a C++ compiler."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from optprune_fast.engine.numba_kernel import run_tasks
from optprune_fast.engine.numba_program import Array, encode, floats, words_array
from optprune_fast.engine.numba_vectors import LANES
from optprune_fast.engine.population import LOSSES, SUM_GROUP, Tiled, Turned
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.ops import numba_support
from optprune_fast.plan.graph import Graph
from optprune_fast.plan.lower import lower

# Registers of a wide tile: a group of samples whose losses are summed together, or two.
WIDTHS = (SUM_GROUP // LANES, 2 * SUM_GROUP // LANES)


class NumbaPopulation(Tiled):
    """One network, as tables for tiles of `width` registers; results are those of `Population`, bit for bit.

    samples:  how many will usually be evaluated: few samples need narrower tiles
    loss:     False where nobody asks for more than the outputs
    """

    def __init__(self, graph: Graph, layout: MaskLayout, state: Mapping[str, Tensor], samples: int, *,
                 loss: bool = True) -> None:
        self.program = lower(graph, layout, state, WIDTHS[samples > SUM_GROUP], loss=loss)
        self._encoded = encode(self.program)

    def _tiles(self, x: Tensor | None, samples: int, width: int) -> Tensor | None:
        """[B, features] -> [tiles, features, width, LANES], absent samples zero."""
        if x is None:
            return None
        reach = self.program.width * LANES
        x = torch.nn.functional.pad(x, (0, 0, 0, -samples % reach))
        return x.reshape(-1, width * LANES, x.shape[1]).transpose(1, 2).contiguous()

    def sums(self, words: Tensor, turned: Turned, targets: Tensor | None, objective: str) -> Tensor:
        """float64 [P]: sum over samples of the objective. words: int64 [P, W]."""
        groups = -(-turned.samples // SUM_GROUP)
        sums = torch.zeros(len(words), groups, dtype=torch.float64)
        self._run(words, turned, targets, sums.numpy(), np.zeros((0, 1, 1, 1), np.float32), objective)
        return sums.cumsum(1)[:, -1] if groups else sums.sum(1)

    def outputs(self, words: Tensor, turned: Turned) -> Tensor:
        """float32 [P, B, …]: the network's outputs."""
        shape = self.program.output_shape
        classes = shape[0] if shape else 1
        out = torch.empty(len(words), turned.samples, classes, torch.Size(shape[1:]).numel())
        self._run(words, turned, None, np.zeros((0, 1)), out.numpy(), "outputs")
        return out.reshape(len(words), turned.samples, *shape)

    def _run(self, words: Tensor, turned: Turned, targets: Tensor | None, sums: Array, outputs: Array,
             objective: str) -> None:
        if len(words) == 0 or turned.samples == 0:
            return
        wanted = np.zeros((1, 1), np.int64) if targets is None else targets.reshape(turned.samples, -1).numpy()
        given = (self._encoded, floats(turned.narrow), floats(turned.wide), wanted, words_array(words), sums, outputs,
                 turned.samples, LOSSES[objective])
        slots = numba_support.allowed_threads()
        # Python's threads, as the kernel holds no lock: a parallel loop of Numba's takes half a minute more to compile.
        with ThreadPoolExecutor(slots) as pool:
            others = [pool.submit(run_tasks, *given, slot, slots) for slot in range(1, slots)]
            run_tasks(*given, 0, slots)
        for other in others:
            other.result()  # its error, if it has one
