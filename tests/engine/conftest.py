"""What the tests of the engine share: small networks, their data, and the plain loop that says what is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.models import MLP, DepthwiseNet, LeNet5, ResNet20, TinyTransformer
from optprune_fast.ops import masked_conv2d, masked_linear
from optprune_fast.runtime import native


@dataclass(frozen=True)
class Case:
    """A network in eval mode, its data, and a few masks that keep about half of it."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor

    @property
    def data(self) -> tuple[Tensor, Tensor]:
        return self.inputs, self.targets

    def masks(self, P: int = 3, share: float = 0.5) -> PackedMasks:
        layout = MaskLayout.of(self.model)
        return random_masks(layout, round(share * layout.n), candidate_seeds(7, 0, P))

    def loop(self, masks: PackedMasks, dtype: torch.dtype = torch.float64) -> Tensor:
        """[P, B, …]: one `functional_call` a candidate, with weight * mask in `dtype`."""
        return _plain_loop(self.model, masks, self.inputs, dtype=dtype)


def _plain_loop(model: nn.Module, masks: PackedMasks, *args: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    state = {k: cast(v.detach()) for k, v in (*model.named_parameters(), *model.named_buffers())}
    out = []
    for mask in masks:
        pruned = {name: state[name] * bits[0] for name, bits in mask.to_dense().items()}
        with torch.no_grad():
            out.append(functional_call(model, {**state, **pruned}, tuple(cast(x) for x in args)))
    return torch.stack(out)


_MAKE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: MLP([70, 33, 5]), (70,)),
    "lenet5": (LeNet5, (1, 28, 28)),
    "resnet20": (lambda: ResNet20(3, 4, width=2), (3, 9, 8)),
    "depthwise": (lambda: DepthwiseNet(2, 4, width=3), (2, 9, 8)),
    "transformer": (lambda: TinyTransformer(1, 8, 5, patch=4, width=8, heads=2, layers=1), (1, 8, 8)),
}
NETWORKS = tuple(_MAKE)


def make_case(name: str, B: int = 5) -> Case:
    model, shape = _MAKE[name]
    torch.manual_seed(len(name))
    net = model().eval()
    for module in net.modules():  # statistics of a network that has seen data, not those of a fresh one
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    inputs = torch.randn(B, *shape)
    classes = net(inputs[:1]).shape[1]
    return Case(net, inputs, torch.randint(classes, (B,)))


def _kinds() -> list[tuple[str, str]]:
    """(backend, instruction set) of what this machine has for both masked operations on a CPU."""
    able = [b for b in ("torch", "numba", "native") if all(op.operation.missing(b) is None
                                                           for op in (masked_linear, masked_conv2d))]
    return [(b, isa) for b in able for isa in (native.isas() if b == "native" else ("",))]


@pytest.fixture(params=_kinds(), ids=lambda kind: ".".join(filter(None, kind)))
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each backend in turn, the native one under each instruction set."""
    name, isa = request.param
    if isa:
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
    return name


@pytest.fixture(params=NETWORKS)
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(request.param)


@pytest.fixture
def mlp() -> Case:
    return make_case("mlp", B=11)


@pytest.fixture
def network() -> Callable[[str], Case]:
    return make_case


@pytest.fixture
def plain_loop() -> Callable[..., Tensor]:
    return _plain_loop


@pytest.fixture
def kinds() -> list[tuple[str, str]]:
    return _kinds()
