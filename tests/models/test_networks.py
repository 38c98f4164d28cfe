"""The reference networks: shapes, sizes, and weights that a seed fixes."""

import pytest
import torch
from torch import nn

from optprune_fast.models import MLP, DepthwiseNet, LeNet5, ResNet20, TinyTransformer

NETWORKS = {
    "mlp": (lambda: MLP([64, 64, 32, 10]), (1, 8, 8), 6_570),
    "mlp-no-bias": (lambda: MLP([784, 40, 20, 10], bias=False), (784,), 32_360),
    "lenet-300-100": (lambda: MLP([784, 300, 100, 10]), (1, 28, 28), 266_610),
    "lenet5-28": (lambda: LeNet5(1, 28, 10), (1, 28, 28), 61_706),
    "lenet5-32": (lambda: LeNet5(3, 32, 10), (3, 32, 32), 62_006),
    # 269,722 with padded shortcuts; the two 1x1 convolutions and their norms add 16*32 + 64 and 32*64 + 128.
    "resnet20": (lambda: ResNet20(3, 10), (3, 32, 32), 272_474),
    "resnet20-narrow": (lambda: ResNet20(1, 10, width=4), (1, 8, 8), None),
    "depthwise": (lambda: DepthwiseNet(3, 7, width=8), (3, 9, 11), None),
    "transformer": (lambda: TinyTransformer(1, 8, 10, patch=2, width=16, heads=2), (1, 8, 8), None),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_have_one_column_per_class(name):
    make, shape, _ = NETWORKS[name]
    with torch.no_grad():
        outputs = make().eval()(torch.randn(3, *shape))
    assert outputs.shape == (3, 7 if name == "depthwise" else 10)
    assert outputs.isfinite().all()


@pytest.mark.parametrize("name", [name for name, row in NETWORKS.items() if row[2]])
def test_sizes_are_those_of_the_literature(name):
    make, _, size = NETWORKS[name]
    assert sum(parameter.numel() for parameter in make().parameters()) == size


@pytest.mark.parametrize("name", NETWORKS)
def test_a_seed_fixes_every_weight(name):
    make = NETWORKS[name][0]
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(make().state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_matters_to_the_outputs(name):
    make, shape, _ = NETWORKS[name]
    torch.manual_seed(0)
    net = make().train()
    net(torch.randn(4, *shape)).square().sum().backward()
    idle = [key for key, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    # Softmax does not see what a bias of the keys adds to all scores of a row; what is left is rounding.
    assert all(key.endswith("key.bias") for key in idle)


def test_resnet20_has_twenty_weight_layers_beside_its_shortcuts():
    names = [
        name
        for name, module in ResNet20().named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear)) and "shortcut" not in name
    ]
    assert len(names) == 20


def test_depthwise_filters_see_one_channel_each():
    convolutions = [module for module in DepthwiseNet(3, 10, width=8).modules() if isinstance(module, nn.Conv2d)]
    assert [(c.groups, c.in_channels) for c in convolutions if c.groups > 1] == [(8, 8), (16, 16), (32, 32)]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: MLP([784]), r"MLP: sizes must name at least inputs and outputs.*\n  sizes  \[784\]"),
        (lambda: MLP([784, 0, 10]), "MLP: sizes must name"),
        (lambda: LeNet5(1, 30), r"LeNet5: pictures must be 28 or 32 pixels.*\n  size  30"),
        (lambda: ResNet20(width=0), "ResNet20: width must be at least 1"),
        (lambda: DepthwiseNet(width=0), "DepthwiseNet: width must be at least 1"),
        (lambda: TinyTransformer(size=9), r"size must be a multiple of patch\n  size  9\n  patch  4"),
        (lambda: TinyTransformer(width=9), r"width must be a multiple of heads\n  width  9\n  heads  4"),
    ],
)
def test_impossible_sizes_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()
