"""Networks that people deploy, by their published architectures and with random weights: for sizes and times only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optprune_fast.models.transformer import Attention


class Bottleneck(nn.Module):
    """Narrow, filter, widen; added to the input, which a layer of its own takes to another shape where it has to."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.across: nn.Module = nn.Identity() if inputs == outputs else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.across(x))


class ResNet50(nn.Module):
    """ResNet-50 [1] with the stride in the middle of a block, as is usual now: 25,557,032 parameters.

    input:   [B, 3, size, size]      output:  [B, classes]

    [1] He et al.: Deep Residual Learning for Image Recognition, CVPR 2016.

    >>> sum(parameter.numel() for parameter in ResNet50().parameters())
    25557032
    """

    STAGES = ((64, 1, 3), (128, 2, 4), (256, 2, 6), (512, 2, 3))  # width, stride of the first, blocks

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 64
        for width, stride, repeats in self.STAGES:
            for i in range(repeats):
                blocks.append(Bottleneck(channels, width, stride if i == 0 else 1))
                channels = 4 * width
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
                                  nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(self.stem(x)))
        return out


class Inverted(nn.Module):
    """Widen, filter each channel by itself, narrow; added to the input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        width = inputs * expand
        widen = [] if expand == 1 else [nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6()]
        self.layers = nn.Sequential(
            *widen, nn.Conv2d(width, width, kernel, stride, kernel // 2, groups=width, bias=False),
            nn.BatchNorm2d(width), nn.ReLU6(), nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.same = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.same else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 [1]: 49 convolutions, 4,652,008 parameters.

    input:   [B, 3, size, size]      output:  [B, classes]

    [1] Tan, Le: EfficientNet, ICML 2019; the Lite variant of its authors has no squeeze-and-excitation, and ReLU6.

    >>> sum(parameter.numel() for parameter in EfficientNetLite0().parameters())
    4652008
    """

    # kernel, stride of the first, expansion, channels, repeats
    STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3),
              (5, 2, 6, 192, 4), (3, 1, 6, 320, 1))

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 32
        for kernel, stride, expand, width, repeats in self.STAGES:
            for i in range(repeats):
                blocks.append(Inverted(channels, width, kernel, stride if i == 0 else 1, expand))
                channels = width
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6(),
                                  nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, classes))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(self.stem(x)))
        return out


class EncoderLayer(nn.Module):
    """Attention and a two-layer perceptron, each added to its input and normalised after."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attention, self.norm1 = Attention(width, heads), nn.LayerNorm(width)
        self.up, self.down, self.norm2 = nn.Linear(width, inner), nn.Linear(inner, width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x))
        out: Tensor = self.norm2(x + self.down(F.gelu(self.up(x))))
        return out


class MiniLM(nn.Module):
    """The encoder of MiniLM-L6 [1] without its table of tokens: 6 layers of width 384, the mean over positions.

    input:   [B, length, 384], token embeddings      output:  [B, 384]

    [1] Wang et al.: MiniLM, NeurIPS 2020; six layers of a BERT of width 384, as sentence encoders use it.

    >>> sum(layer.weight.numel() for layer in MiniLM().modules() if isinstance(layer, nn.Linear))
    10616832
    """

    def __init__(self, length: int = 128, width: int = 384, layers: int = 6) -> None:
        super().__init__()
        self.position, self.norm = nn.Parameter(0.02 * torch.randn(length, width)), nn.LayerNorm(width)
        self.layers = nn.Sequential(*(EncoderLayer(width, 12, 4 * width) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(self.norm(x + self.position)).mean(1)
        return out
