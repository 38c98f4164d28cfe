"""Networks for the engine on a GPU, small enough for Triton's interpreter, and what they give by a loop in float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.models import MLP, TinyTransformer
from optprune_fast.testing.nets import Net
from optprune_fast.testing.tolerance import network_limit


def lenet(m, x):
    y = F.max_pool2d(m["a"](x).relu(), 2)
    return m["d"](m["c"](F.max_pool2d(m["b"](y).relu(), 2).flatten(1)).relu())


def residual(m, x):
    y = m["n1"](m["a"](x)).relu()
    return m["fc"]((m["n2"](m["b"](y)) + y).relu().mean((2, 3)))


def unlike(m, x):
    """What is the same for all candidates meets what is not; a convolution along one axis; a step that has no name."""
    y = m["a"](x) + x[:, :1]
    return m["b"](y.cumsum(2)).sum(1)


NETS = {
    "mlp": (lambda: MLP([70, 19, 17, 5]), (70,)),
    "lenet": (lambda: Net(lenet, a=nn.Conv2d(1, 3, 3), b=nn.Conv2d(3, 5, 3, padding=1), c=nn.Linear(20, 9),
                          d=nn.Linear(9, 4)), (1, 10, 10)),
    "transformer": (lambda: TinyTransformer(1, 8, 5, patch=4, width=8, heads=2, layers=1), (1, 8, 8)),
    "residual": (lambda: Net(residual, a=nn.Conv2d(2, 4, 3, padding=1, bias=False), n1=nn.BatchNorm2d(4),
                             b=nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False), n2=nn.BatchNorm2d(4),
                             fc=nn.Linear(4, 3)), (2, 5, 4)),
    "unlike": (lambda: Net(unlike, a=nn.Conv1d(2, 3, 3, padding=1), b=nn.Linear(7, 4)), (2, 7)),
}
SAMPLES = 6


class Case:
    def __init__(self, name):
        torch.manual_seed(len(name))
        make, shape = NETS[name]
        self.model = make().eval()
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        self.inputs = torch.randn(SAMPLES, *shape)
        self.targets = torch.randint(3, (SAMPLES,))
        self.data = self.inputs, self.targets
        self.layout = MaskLayout.of(self.model)
        self.masks = random_masks(self.layout, self.layout.n // 2, candidate_seeds(7, 0, 3))

    def evaluator(self, **options):
        return Evaluator(self.model, self.data, backend="triton", **options)

    def outputs(self, masks, dtype=torch.float64):
        state = {name: tensor.to(dtype) for name, tensor in self.model.state_dict().items()}
        kept = [{name: state[name] * bits[0] for name, bits in mask.to_dense().items()} for mask in masks]
        with torch.no_grad():
            outputs = [functional_call(self.model, {**state, **one}, (self.inputs.to(dtype),)) for one in kept]
        return torch.stack(outputs)


def rule(outputs64, outputs32, precision="fp32"):
    return network_limit(outputs64, outputs32, terms=70, layers=4, precision=precision)
