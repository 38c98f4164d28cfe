"""Dense masks: dropped weights are multiplied as zeros, and no bit shows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.population import Population
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks, swap
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.models import LeNet5, ResNet20
from optprune_fast.plan import built, capture
from optprune_fast.plan.graph import Graph
from optprune_fast.plan.model import state_of
from optprune_fast.runtime import native

pytestmark = pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")
ALWAYS, NEVER = 0.0, 2.0


class Net(nn.Module):
    """One convolution, and what is melted into it."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor], *args: int, **more: object) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(*args, **more), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv, x)


def plain(conv: nn.Module, x: Tensor) -> Tensor:
    return conv(x)


def pooled(conv: nn.Module, x: Tensor) -> Tensor:
    return F.max_pool2d(conv(x).relu(), 2)


def residual(conv: nn.Module, x: Tensor) -> Tensor:
    return (conv(x) + x).relu()


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "two rows": (lambda: Net(plain, 2, 2, 3), (2, 5, 6)),
    "four rows": (lambda: Net(plain, 2, 4, 3, bias=False), (2, 4, 4)),
    "seven rows": (lambda: Net(plain, 2, 7, 3, padding=1), (2, 5, 5)),
    "eight rows": (lambda: Net(plain, 2, 8, (2, 3)), (2, 4, 9)),
    "strided": (lambda: Net(plain, 3, 5, 3, stride=2, padding=1), (3, 9, 7)),
    "strided down alone": (lambda: Net(plain, 3, 5, 3, stride=(2, 1), padding=(0, 2)), (3, 8, 5)),
    "dilated": (lambda: Net(plain, 2, 6, 3, padding=2, dilation=2), (2, 6, 7)),
    "grouped": (lambda: Net(plain, 6, 10, 3, groups=2, padding=1), (6, 5, 5)),
    "gelu": (lambda: Net(lambda conv, x: F.gelu(conv(x)), 2, 3, 3), (2, 5, 6)),
    "pooled": (lambda: Net(pooled, 2, 6, 5), (2, 12, 12)),
    "pooled, a row and a column left over": (lambda: Net(pooled, 2, 5, 3), (2, 9, 7)),
    "pooled to nothing across": (lambda: Net(lambda conv, x: F.max_pool2d(conv(x), 2), 2, 3, 3), (2, 7, 4)),
    "residual": (lambda: Net(residual, 5, 5, 3, padding=1), (5, 5, 7)),
    "residual, pooled": (lambda: Net(lambda conv, x: F.max_pool2d(residual(conv, x), 2), 4, 4, 3, padding=1),
                         (4, 6, 7)),
    "panels": (lambda: Net(plain, 48, 5, 5, padding=2), (48, 5, 5)),
    "panels, pooled": (lambda: Net(pooled, 48, 4, 5), (48, 9, 10)),
    "panels, residual, grouped": (lambda: Net(residual, 96, 96, 5, padding=2, groups=2), (96, 2, 5)),
}


def graph_of(model: nn.Module, inputs: Tensor) -> Graph:
    return capture(model.eval(), (torch.randn(3, *inputs.shape[1:]),), {}, MaskLayout.of(model))


def outputs(model: nn.Module, graph: Graph, inputs: Tensor, masks: list[PackedMasks], thresholds: tuple[float, ...],
            patch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """Of each threshold: outputs [P, B, …] for each of the masks.

    A dropped weight times infinity is no number, one that is skipped adds nothing: so infinite inputs show the way.
    """
    for threshold in thresholds:
        patch.setitem(built.DENSE_FROM, "conv2d", threshold)
        engine = Population(graph, MaskLayout.of(model), state_of(model), len(inputs))
        yield [engine.outputs(some.words, engine.turn({0: inputs}, len(inputs), None)) for some in masks]


@pytest.mark.parametrize("name", NETS)
def test_no_bit_shows_which_way_a_convolution_went(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    model, inputs = NETS[name][0](), torch.randn(19, *NETS[name][1])
    layout, graph = MaskLayout.of(model), graph_of(model, inputs)
    masks = [random_masks(layout, math.ceil(share * layout.n), candidate_seeds(7, 0, 3)) for share in (0.05, 0.6, 1.0)]
    nothing = random_masks(layout, 0, [0])
    for isa in native.isas():
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
        for dense, skipped in zip(*outputs(model, graph, inputs, masks, (ALWAYS, NEVER), monkeypatch), strict=True):
            assert dense.count_nonzero() > 0
            assert torch.equal(dense, skipped)
        endless = torch.full_like(inputs, math.inf)
        (multiplied,), (skipped,) = outputs(model, graph, endless, [nothing], (ALWAYS, NEVER), monkeypatch)
        assert multiplied.isnan().any()
        assert not skipped.isnan().any()


def test_a_share_of_just_the_threshold_is_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = Net(plain, 2, 4, 3), torch.ones(9, 2, 5, 5)
    bits = torch.zeros(2, 4, 2, 3, 3, dtype=torch.bool)
    bits[:, :, 1] = True
    bits[1, 3, 1, 2, 2] = False
    inputs[:, 0] = math.inf
    masks = PackedMasks.from_dense(MaskLayout.of(model), {"conv.weight": bits})
    [[(dense, skipped)]] = outputs(model, graph_of(model, inputs), inputs, [masks], (0.5,), monkeypatch)
    assert dense.isnan().all()
    assert skipped.isfinite().all()


def test_depthwise_convolutions_are_never_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = Net(plain, 4, 4, 3, groups=4), torch.full((9, 4, 5, 5), math.inf)
    nothing = random_masks(MaskLayout.of(model), 0, [0])
    [[out]] = outputs(model, graph_of(model, inputs), inputs, [nothing], (ALWAYS,), monkeypatch)
    assert out.isfinite().all()


def test_explain_says_which_way_a_layer_went(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(built.DENSE_FROM, "conv2d", 0.5)
    ev = Evaluator(Net(plain, 2, 4, 3), (torch.randn(9, 2, 5, 5), None), "mse_to_dense", backend="native")
    for kept, way in (((72, 36), "dense"), ((36, 35), "dense/skip"), ((35, 0), "skip")):
        masks = PackedMasks.cat([random_masks(ev.layout, k, [k]) for k in kept])
        ev(masks)
        row = next(line.split() for line in ev.explain().splitlines() if line.startswith("conv.weight"))
        assert way in row


@pytest.mark.parametrize("make", [lambda: LeNet5(2, 28), lambda: ResNet20(2, 10, width=2)], ids=["lenet5", "resnet20"])
def test_moves_of_a_dense_mask_are_the_moved_masks(make: Callable[[], nn.Module],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    monkeypatch.setitem(built.DENSE_FROM, "conv2d", ALWAYS)
    model = make().eval()
    ev = Evaluator(model, (torch.randn(9, 2, 28, 28), torch.randint(10, (9,))), backend="native",
                   reuse=())
    mask = random_masks(ev.layout, round(0.9 * ev.layout.n), [3])
    moves = torch.stack([torch.randperm(ev.layout.n)[:4] for _ in range(6)])
    found, wanted = ev.moves(mask, moves), ev(swap(mask, moves))
    if isinstance(model, LeNet5):  # differences spread in its last layers
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(found, wanted)
    assert len(found.unique()) > 1
