"""Inputs as tiles of registers of samples, for the compiled kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.runtime import native
from optprune_fast.runtime.threads import thread_count


def tiles(isa: str, x: Tensor, samples: int, width: int, tile_width: int) -> Tensor:
    """[B, features] in tiles of [features, width, lanes], as many as tiles of `tile_width` registers need; absent
    samples zero."""
    module = native.module()
    tile = tile_width * module.population_lanes(isa)
    out = torch.empty(-(-samples // tile) * tile * x.shape[1])
    module.population_turn(isa, thread_count(), x.data_ptr(), samples, x.shape[1], width, out.data_ptr())
    return out
