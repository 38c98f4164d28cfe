"""A multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from optprune_fast.runtime.errors import message


class MLP(nn.Module):
    """Linear layers of the given sizes with ReLU between them; inputs of any shape are flattened.

    input:   [B, ...] with `sizes[0]` values per sample
    output:  [B, sizes[-1]]

    >>> import torch
    >>> net = MLP([784, 300, 100, 10])  # LeNet-300-100
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 266610)
    """

    def __init__(self, sizes: Sequence[int], bias: bool = True) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            rule = "sizes must name at least inputs and outputs, each at least 1"
            raise ValueError(message("MLP", rule, "MLP([784, 300, 100, 10])", sizes=list(sizes)))
        self.layers = nn.ModuleList(nn.Linear(i, o, bias=bias) for i, o in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x).relu()
        out: Tensor = last(x)
        return out
