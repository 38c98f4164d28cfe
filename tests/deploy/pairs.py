"""A layer of torch's with random zeros, and the sparse one that holds what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from optprune_fast.deploy.convert import sparse_layer
from optprune_fast.deploy.layer import SparseLayer
from optprune_fast.deploy.weight import SparseWeight
from optprune_fast.ops.words import pack


def pair(make: Callable[[], Any], shape: tuple[int, ...], seed: int = 1, coded: bool | None = None
         ) -> tuple[nn.Module, SparseLayer, Tensor]:
    """(the torch layer with zeros, the sparse one, an input)"""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dense, x = make().requires_grad_(False), torch.randn(shape)
        mask = torch.rand(dense.weight.shape) < 0.4
    dense.weight[~mask] = 0
    weight = SparseWeight.of(pack(mask.flatten(1)), dense.weight[mask], dense.weight.shape,
                             groups=getattr(dense, "groups", 1), coded=coded)
    return dense, sparse_layer(dense, weight, "because"), x
