"""Moves in the native engine: bit for bit the evaluation of the moved mask, or within rounding in a plain chain."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks, swap
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.models import MLP, DepthwiseNet, LeNet5, ResNet20, TinyTransformer
from optprune_fast.runtime import native

pytestmark = pytest.mark.skipif(native.missing("moves") is not None, reason="no compiled module")


class Branches(nn.Module):
    """A concatenation, a gate, a layer that nothing reads, and one left out of the layout."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 3, 1)
        self.c, self.gate = nn.Conv2d(6, 4, 3, stride=2, groups=2), nn.Linear(6, 4)
        self.idle, self.whole, self.fc = nn.Linear(3, 3), nn.Conv2d(4, 4, 1), nn.Linear(4 * 3 * 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.a(x), self.b(x).relu()], 1)
        gate = self.gate(both.mean((2, 3))).sigmoid()
        return self.fc(self.whole(self.c(both) * gate[:, :, None, None]).relu().flatten(1))


CHAINS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: MLP([70, 33, 20, 5]), (70,)),
    "gelu": (lambda: nn.Sequential(nn.Linear(9, 8), nn.GELU(), nn.Linear(8, 6), nn.Linear(6, 4), nn.Sigmoid()), (9,)),
    "one layer": (lambda: nn.Sequential(nn.Linear(9, 4)), (9,)),
    "lenet5": (LeNet5, (1, 28, 28)),
    "seventeen layers": (lambda: nn.Sequential(*(nn.Linear(6, 6) for _ in range(17))), (6,)),
}
OTHERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet20": (lambda: ResNet20(3, 4, width=2), (3, 9, 8)),
    "depthwise": (lambda: DepthwiseNet(2, 4, width=3), (2, 9, 8)),
    "transformer": (lambda: TinyTransformer(1, 8, 5, patch=4, width=8, heads=2, layers=1), (1, 8, 8)),
    "branches": (Branches, (2, 7, 7)),
    "softmax": (lambda: nn.Sequential(nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 3), nn.LogSoftmax(1)), (9,)),
}
NETS = CHAINS | OTHERS
SLOPED = ("mlp", "lenet5")


def evaluator(name: str, B: int = 69, objective: str = "cross_entropy", cut: int = 1000) -> Evaluator:
    torch.manual_seed(3)
    model, shape = NETS[name]
    net, inputs = model().eval(), torch.randn(B, *shape)
    targets = torch.randint(net(inputs[:1]).shape[1], (B,))
    data = [(inputs[i:i + cut], targets[i:i + cut]) for i in range(0, B, cut)]
    layout = MaskLayout.of(net, exclude=["whole.*"] if name == "branches" else None)
    return Evaluator(net, data, objective, backend="native", layout=layout)


def parent_of(ev: Evaluator, share: float = 0.3) -> PackedMasks:
    return random_masks(ev.layout, round(share * ev.layout.n), candidate_seeds(5, 0, 1))


def some_moves(layout: MaskLayout, M: int = 30) -> Tensor:
    """Single flips, pairs and four at once; whatever they do to the budget."""
    draw = torch.Generator().manual_seed(1)
    moves = torch.stack([torch.randperm(layout.n, generator=draw)[:4] for _ in range(M)])
    moves[::3, 1:], moves[1::3, 2:], moves[4] = -1, -1, -1
    return moves


def same_row(layout: MaskLayout) -> Tensor:
    return torch.tensor([[layer.first_weight, layer.first_weight + layer.columns - 1] for layer in layout
                         if layer.columns > 1])


def assert_agrees(ev: Evaluator, parent: PackedMasks, moves: Tensor) -> Tensor:
    before = parent.words.clone()
    found, wanted = ev.moves(parent, moves), ev(swap(parent, moves))
    if ev._compiled.program(ev.batches.kinds[0].example).chained:
        torch.testing.assert_close(found, wanted, rtol=2e-6, atol=2e-7)
    else:
        assert torch.equal(found, wanted)
    assert torch.equal(parent.words, before)
    return found


@pytest.mark.parametrize("name", NETS)
def test_moves_are_evaluations_of_the_neighbours(name: str, monkeypatch) -> None:
    bits = []
    for isa in native.isas():
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
        ev = evaluator(name)
        assert ev._compiled.ready
        before = native.calls()["moves", isa]
        bits.append(assert_agrees(ev, parent_of(ev), some_moves(ev.layout)))
        assert native.calls()["moves", isa] > before
        assert_agrees(ev, parent_of(ev), same_row(ev.layout))
    assert all(torch.equal(one, bits[0]) for one in bits)
    assert (ev._compiled.program(ev.batches.kinds[0].example).chained > 0) == (name in CHAINS)


@pytest.mark.parametrize("name", NETS)
def test_slopes_answer_the_ends_that_are_linear_relu_linear(name: str) -> None:
    ev = evaluator(name)
    assert ev._compiled.program(ev.batches.kinds[0].example, keep=True).sloped == (name in SLOPED)


@pytest.mark.parametrize("name", ["mlp", "lenet5", "transformer"])
@pytest.mark.parametrize("B", [1, 7, 33, 65, 129])
def test_neither_threads_nor_batches_change_a_bit(name: str, B: int, monkeypatch) -> None:
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OPTPRUNE_THREADS", threads)
        for cut in (1000, 5):
            ev = evaluator(name, B, cut=cut)
            found.append(assert_agrees(ev, parent_of(ev), some_moves(ev.layout, 9)))
    assert all(torch.equal(one, found[0]) for one in found)


@pytest.mark.parametrize("objective", ["error", "kl_to_dense", "mse_to_dense"])
@pytest.mark.parametrize("name", ["gelu", "branches"])
def test_moves_follow_the_objective(name: str, objective: str) -> None:
    ev = evaluator(name, objective=objective)
    assert_agrees(ev, parent_of(ev), some_moves(ev.layout))


@pytest.mark.parametrize(("scale", "least", "most"), [(1.0, 1.0, 1.0), (30.0, 0.9, 0.99), (1e3, 0.0, 0.1)])
@pytest.mark.parametrize("objective", ["cross_entropy", "error", "mse_to_dense"])
def test_losses_follow_changes_of_any_size(scale: float, least: float, most: float, objective: str,
                                           monkeypatch) -> None:
    """Small changes of the logits have a short way to the cross-entropy, group by group of samples; large ones none.

    least, most: what share of the groups the short way is open to
    """
    torch.manual_seed(3)
    net = MLP([70, 33, 20, 5]).eval().requires_grad_(False)
    net.layers[-1].weight.mul_(scale)
    data, bits = (torch.randn(197, 70), torch.randint(5, (197,))), []
    for isa in native.isas():
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
        ev = Evaluator(net, data, objective, backend="native")
        parent, moves = parent_of(ev), some_moves(ev.layout, 60)
        bits.append(assert_agrees(ev, parent, moves))
    assert all(torch.equal(one, bits[0]) for one in bits)
    changes = (ev.outputs(swap(parent, moves)) - ev.outputs(parent)).abs().amax(2)
    groups = changes[:, :192].reshape(60, 6, 32).amax(2)
    assert least <= float((groups < 0.5).float().mean()) <= most


def test_infinite_logits_are_no_small_changes() -> None:
    torch.manual_seed(3)
    inputs = torch.randn(64, 70)
    inputs[7, 3] = float("inf")
    ev = Evaluator(MLP([70, 33, 20, 5]).eval(), (inputs, torch.randint(5, (64,))), backend="native")
    parent = parent_of(ev)
    moves = torch.tensor([[parent.indices()[0], -1], [3, 73]])
    torch.testing.assert_close(ev.moves(parent, moves), ev(swap(parent, moves)), equal_nan=True)


@pytest.mark.parametrize("name", ["mlp", "lenet5", "resnet20", "branches"])
@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_dead_rows_and_full_parents(name: str, share: float) -> None:
    """From an empty parent a flip wakes a dead row, which the next layer may not read."""
    ev = evaluator(name, 33)
    assert_agrees(ev, parent_of(ev, share), some_moves(ev.layout))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_flips_along_one_path(share: float) -> None:
    """A unit's own weight and the next layer's weight on it, in one move."""
    ev = evaluator("mlp", 33)
    first, second, third = ev.layout.layers
    moves = torch.tensor([[first.first_weight + unit * first.columns + 3,
                           second.first_weight + row * second.columns + unit, third.first_weight + row]
                          for unit, row in ((0, 0), (32, 19), (7, 4))])
    found = assert_agrees(ev, parent_of(ev, share), moves)
    assert not torch.equal(found, ev(parent_of(ev, share)).expand(3))


def test_flips_that_nothing_reads_leave_the_fitness_as_it_is() -> None:
    ev = evaluator("branches")
    parent, idle = parent_of(ev), ev.layout["idle.weight"]
    moves = torch.tensor([[idle.first_weight, -1], [idle.first_weight + 1, idle.first_weight + 5], [-1, -1]])
    assert torch.equal(assert_agrees(ev, parent, moves), ev(parent).expand(3))


@pytest.mark.parametrize("shape", [(0, 2), (3, 0)])
def test_no_moves(shape: tuple[int, int]) -> None:
    ev = evaluator("mlp")
    moves = torch.zeros(shape, dtype=torch.int64)
    assert torch.equal(ev.moves(parent_of(ev), moves), ev(parent_of(ev)).expand(shape[0]))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(self.a(x).relu()).relu())


def test_a_weight_used_twice_is_flipped_in_both_places() -> None:
    torch.manual_seed(0)
    ev = Evaluator(Twice(), (torch.randn(40, 6), torch.randint(3, (40,))), backend="native")
    parent, moves = parent_of(ev, 0.5), torch.tensor([[0, -1], [7, 40], [11, 12]])
    assert torch.equal(ev.moves(parent, moves), ev(swap(parent, moves)))
