"""A mask applied to the weights themselves."""

from __future__ import annotations

import torch
from torch import nn

from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import message


def zero_pruned(model: nn.Module, mask: PackedMasks) -> None:
    """Set the weights of `model` that a single mask prunes to zero, in place. Raises `ValueError` for several masks.

    >>> from optprune_fast.masks.magnitude import magnitude
    >>> net = nn.Linear(2, 1, bias=False)
    >>> zero_pruned(net, magnitude(net, sparsity=0.5).mask)
    >>> int(net.weight.count_nonzero())
    1
    """
    if len(mask) != 1:
        raise ValueError(message("zero_pruned", "one mask at a time", "masks[i] is the i-th of several", mask=mask))
    weights = mask.layout.weights_of(model)
    with torch.no_grad():
        for name, bits in mask.to_dense().items():
            # A filled zero is +0.0 also where the weight was negative or no number.
            weights[name].masked_fill_(~bits[0].to(weights[name].device), 0.0)
