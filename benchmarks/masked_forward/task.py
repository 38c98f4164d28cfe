"""The losses of P independent random masks of one network: the networks and their inputs.

The masks, the useful multiply-adds, the float64 oracle and the rivals are `optprune_fast.bench`, which
`optprune-fast bench` uses on other networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from optprune_fast.bench import Problem
from optprune_fast.models import MLP, LeNet5, ResNet20
from optprune_fast.models.transformer import Layer

CLASSES = 10


class VggSmall(nn.Sequential):
    """[B, 3, 32, 32] -> [B, 10]: four 3x3 convolutions, padded, a pooling after each two; two linear layers."""

    def __init__(self, channels: tuple[int, int] = (32, 64), hidden: int = 128) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((3, *channels)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(),
                       nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        super().__init__(*layers, nn.Flatten(), nn.Linear(channels[-1] * 8 * 8, hidden), nn.ReLU(),
                         nn.Linear(hidden, CLASSES))


class Encoder(nn.Module):
    """[B, T, width] -> [B, 10]: transformer layers, normalised before; the mean over T; a linear layer."""

    def __init__(self, width: int = 384, heads: int = 12, layers: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.layers(x)).mean(1))
        return out


@dataclass(frozen=True)
class Network:
    """make; shape of one sample; P and B of the published table; small: a version of it for tests."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    small: Callable[[], nn.Module]
    small_shape: tuple[int, ...]
    P: int = 16
    B: int = 256


PICTURE = (3, 32, 32)
NETWORKS = {
    "mlp": Network(lambda: MLP([784, 300, 100, 10]), (784,), lambda: MLP([20, 12, 10]), (20,), P=64),
    "lenet5": Network(lambda: LeNet5(3, 32), PICTURE, lambda: LeNet5(1, 28), (1, 28, 28), P=64),
    "vgg_small": Network(VggSmall, PICTURE, lambda: VggSmall((4, 6), 8), PICTURE),
    "resnet20": Network(ResNet20, PICTURE, lambda: ResNet20(3, CLASSES, width=4), (3, 8, 8)),
    "transformer": Network(Encoder, (32, 384), lambda: Encoder(16, 2, 1), (5, 16), B=64),
}


def problem(name: str, samples: int | None = None, small: bool = False, density: float = 1.0) -> Problem:
    """A random network on random samples. The weights are drawn so that at this density the signal neither dies nor
    grows from layer to layer: losses then differ from mask to mask, and a wrong mask shows."""
    network = NETWORKS[name]
    shape = network.small_shape if small else network.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = (network.small if small else network.make)().eval().requires_grad_(False)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(std=math.sqrt(2 / (fan_in * density)))
        size = network.B if samples is None else samples
        return Problem(name, model, torch.randn(size, *shape), torch.randint(CLASSES, (size,)))
