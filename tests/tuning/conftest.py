"""A small network with a convolution in groups, batch normalisation and tied weights."""

import pytest
import torch
from torch import Tensor, nn


class Everything(nn.Module):
    """Grouped convolution, batch normalisation, dropout, two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.1)
        self.first = nn.Linear(16, 16)
        self.second = nn.Linear(16, 16)
        self.second.weight = self.first.weight
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu().flatten(1)
        return self.last(self.drop(self.second(self.first(x).relu()).relu()))


@pytest.fixture
def everything() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Everything().eval()


@pytest.fixture(scope="session")
def pictures() -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(6)
    inputs = torch.randn(120, 2, 4, 4, generator=made)
    return inputs, inputs.flatten(1)[:, :3].argmax(1)
