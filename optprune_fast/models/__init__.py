"""Small reference networks for examples, tests and the demo; `optprune_fast.models.train` trains them.

Each is a plain `nn.Module`, initialised as torch does: `torch.manual_seed` fixes its weights.
"""

from optprune_fast.models.depthwise import DepthwiseNet
from optprune_fast.models.lenet5 import LeNet5
from optprune_fast.models.mlp import MLP
from optprune_fast.models.resnet20 import ResNet20
from optprune_fast.models.transformer import TinyTransformer

__all__ = ["MLP", "DepthwiseNet", "LeNet5", "ResNet20", "TinyTransformer"]
