"""A small network of depthwise-separable convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from optprune_fast.runtime.errors import message


class Separable(nn.Module):
    """A 3x3 filter for each channel by itself, then a 1x1 convolution that mixes channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.depthwise(x)).relu()
        out: Tensor = self.norm2(self.pointwise(x)).relu()
        return out


class DepthwiseNet(nn.Module):
    """One convolution, three separable ones (the last two halve the picture), one linear layer.

    input:   [B, in_channels, H, W]
    output:  [B, classes]

    >>> import torch
    >>> DepthwiseNet(1, 10).eval()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, in_channels: int = 3, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(message("DepthwiseNet", "width must be at least 1", width=width))
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(
            Separable(width, 2 * width, 1), Separable(2 * width, 4 * width, 2), Separable(4 * width, 4 * width, 2)
        )
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.norm(self.conv(x)).relu())
        out: Tensor = self.fc(x.mean((2, 3)))
        return out
