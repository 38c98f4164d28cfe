"""The residual network of 20 layers for small pictures, with 1x1 convolutions where a shortcut changes shape."""

from __future__ import annotations

from torch import Tensor, nn

from optprune_fast.runtime.errors import message

BLOCKS_PER_STAGE = 3


class Block(nn.Module):
    """Two 3x3 convolutions and the shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        shortcut: Tensor = self.shortcut(x)
        return (branch + shortcut).relu()


class ResNet20(nn.Module):
    """One convolution, three stages of three blocks at `width`, `2 width` and `4 width` channels, one linear layer.

    input:   [B, in_channels, H, W], any H, W of at least 1; 32x32 is what it was made for
    output:  [B, classes]

    >>> import torch
    >>> net = ResNet20(3, 10, width=4).eval()
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, in_channels: int = 3, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(message("ResNet20", "width must be at least 1", width=width))
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        blocks, channels = [], width
        for stage in range(3):
            for block in range(BLOCKS_PER_STAGE):
                stride = 2 if stage and not block else 1
                blocks.append(Block(channels, width << stage, stride))
                channels = width << stage
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.norm(self.conv(x)).relu())
        out: Tensor = self.fc(x.mean((2, 3)))
        return out
