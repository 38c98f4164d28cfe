"""A small transformer encoder on patches of a picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optprune_fast.runtime.errors import message


class Attention(nn.Module):
    """Self-attention whose four projections are ordinary linear layers, so that each can be pruned."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        # [B, length, width] -> [B, heads, length, width / heads]
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Layer(nn.Module):
    """Attention and a two-layer perceptron, each normalised before and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return out


class TinyTransformer(nn.Module):
    """Patches of `patch` x `patch` pixels, a learned position, `layers` encoder layers, the mean, a linear layer.

    input:   [B, in_channels, size, size], size a multiple of patch
    output:  [B, classes]

    >>> TinyTransformer(1, 8, 10, patch=2, width=16, heads=2)(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        in_channels: int = 1,
        size: int = 28,
        classes: int = 10,
        *,
        patch: int = 4,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
    ) -> None:
        super().__init__()
        if patch < 1 or size % patch:
            raise ValueError(message("TinyTransformer", "size must be a multiple of patch", size=size, patch=patch))
        if heads < 1 or width % heads:
            raise ValueError(message("TinyTransformer", "width must be a multiple of heads", width=width, heads=heads))
        self.patches = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        out: Tensor = self.head(self.norm(self.layers(x)).mean(1))
        return out
