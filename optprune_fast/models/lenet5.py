"""LeNet-5 with ReLU and max pooling."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from optprune_fast.runtime.errors import message


class LeNet5(nn.Module):
    """Two convolutions (6 and 16 filters of 5x5) and three linear layers (120, 84, `classes`).

    input:   [B, in_channels, size, size], size 28 (padded to 32 by the first convolution) or 32
    output:  [B, classes]

    >>> import torch
    >>> net = LeNet5()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 61706)
    """

    def __init__(self, in_channels: int = 1, size: int = 28, classes: int = 10) -> None:
        super().__init__()
        if size not in (28, 32):
            way_out = "pad or resize the pictures"
            raise ValueError(message("LeNet5", "pictures must be 28 or 32 pixels wide and high", way_out, size=size))
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=(32 - size) // 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        x = self.fc1(x.flatten(1)).relu()
        out: Tensor = self.fc3(self.fc2(x).relu())
        return out
