"""The Numba population engine computes what the native one computes, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.population import LOSSES, Population
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops import masked_linear
from optprune_fast.plan import capture
from optprune_fast.plan.model import state_of

pytestmark = pytest.mark.skipif(
    any(masked_linear.operation.missing(backend) is not None for backend in ("native", "numba")),
    reason="needs the native module and Numba")
SIZES = (1, 15, 16, 17, 129)  # fewer than a register, about two of them, more than two tiles


def masks_of(model: nn.Module, P: int = 3) -> PackedMasks:
    layout = MaskLayout.of(model)
    return random_masks(layout, round(0.5 * layout.n), candidate_seeds(7, 0, P))


def assert_twins(model: nn.Module, x: Tensor, targets: Tensor, words: Tensor) -> None:
    """Outputs and sums of every objective are the same bits."""
    from optprune_fast.engine.numba_population import NumbaPopulation

    layout, state, B = MaskLayout.of(model), state_of(model), len(x)
    graph = capture(model, (x[:1].expand(3, *x.shape[1:]),), {}, layout)
    with torch.no_grad():
        dense = torch.log_softmax(model(x), 1)
    found: list[Any] = []
    for population in (Population(graph, layout, state, B), NumbaPopulation(graph, layout, state, B)):
        turned = population.turn({0: x}, B, dense)
        found.append([population.outputs(words, turned),
                      *(population.sums(words, turned, targets, objective) for objective in LOSSES
                        if objective != "outputs")])
    for native, numba in zip(*found, strict=True):
        assert native.shape == numba.shape
        assert torch.equal(native, numba)
    assert len(words) == 0 or found[1][0].std() > 0


@pytest.mark.parametrize("B", SIZES)
def test_networks(case: Any, B: int) -> None:
    x = case.inputs.repeat(-(-B // 5), *(1,) * (case.inputs.dim() - 1))[:B]
    x = x * torch.linspace(0.5, 1.5, B).reshape(B, *(1,) * (x.dim() - 1))
    assert_twins(case.model, x, case.targets.repeat(-(-B // 5))[:B], case.masks(3).words)


@pytest.mark.parametrize("P", [0, 1, 3])
def test_numbers_of_candidates(mlp: Any, P: int) -> None:
    assert_twins(mlp.model, mlp.inputs, mlp.targets, mlp.masks(3)[:P].words)


@pytest.mark.parametrize("activation", [
    nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.2), nn.ELU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Sigmoid(), nn.Tanh(),
    nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(-0.5, 0.7)], ids=str)
def test_activations(activation: nn.Module) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 40), activation, nn.Linear(40, 3)).eval()
    x = 4 * torch.randn(21, 6)
    assert_twins(model, x, torch.randint(3, (21,)), masks_of(model).words)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.7)], ids=str)
def test_activations_that_a_convolution_applies_as_it_stores(activation: nn.Module) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), activation, nn.Conv2d(5, 4, 3, stride=2), activation,
                          nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)).eval()
    x = 4 * torch.randn(21, 2, 9, 7)
    assert_twins(model, x, torch.randint(3, (21,)), masks_of(model).words)


class Steps(nn.Module):
    """Steps that the small networks do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.pools = nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.MaxPool2d(3, 1, 1), nn.Sigmoid())
        self.fc = nn.Linear(6 * 3 * 3, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = self.pools(y * torch.sigmoid(y) - 0.25 * y)
        y = torch.cat([y, y - 2 * y.mean((2, 3), keepdim=True)], 1)[:, 3:9]
        return self.fc(torch.softmax(y.flatten(1), 1)) + 1


def test_other_steps() -> None:
    torch.manual_seed(2)
    model = Steps().eval()
    assert_twins(model, torch.randn(19, 2, 11, 9), torch.randint(4, (19,)), masks_of(model).words)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.fc = nn.Embedding(11, 6), nn.LayerNorm(6), nn.Linear(6, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(self.norm(self.table(tokens))).mean(1)


def test_tokens() -> None:
    torch.manual_seed(3)
    model = Tokens().eval()
    assert_twins(model, torch.randint(11, (19, 7)), torch.randint(4, (19,)), masks_of(model).words)


class Wide(nn.Module):
    """More rows and columns than a block of dense rows has; a curve applied as rows are written; a sum, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down, self.head = (
            nn.LayerNorm(200), nn.Linear(200, 389), nn.Linear(389, 200), nn.Linear(200, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.down(nn.functional.gelu(self.up(self.norm(x))))
        return self.head(x.mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("density", [0.02, 0.3, 0.8, 1.0])  # lists, words, dense rows, the weights as they are
@pytest.mark.parametrize("positions", [1, 9, 32, 35])  # one strip of dense rows has 32 registers
def test_each_way_through_linear_layers_over_positions(positions: int, density: float) -> None:
    torch.manual_seed(4)
    model = Wide().eval()
    layout = MaskLayout.of(model)
    words = random_masks(layout, round(density * layout.n), candidate_seeds(7, 0, 2)).words
    assert_twins(model, torch.randn(9, positions, 200), torch.randint(4, (9,)), words)


def test_the_evaluator_uses_it(mlp: Any) -> None:
    """Fitness, metrics, moves and outputs: on the Numba backend they are those of the native one."""
    native, numba = (Evaluator(mlp.model, mlp.data, backend=backend) for backend in ("native", "numba"))
    masks = mlp.masks(3)
    assert torch.equal(native(masks), numba(masks))
    assert torch.equal(native.outputs(masks), numba.outputs(masks))
    assert torch.equal(native.metrics(masks)["accuracy"], numba.metrics(masks)["accuracy"])
    moves = torch.tensor([[0, 5], [7, -1]])
    torch.testing.assert_close(native.moves(masks[0], moves), numba.moves(masks[0], moves), rtol=1e-6, atol=0)
    assert "plan     the whole network, in Numba" in numba.explain()


def test_threads_change_nothing(mlp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OPTPRUNE_THREADS", threads)
        found.append(Evaluator(mlp.model, mlp.data, backend="numba")(mlp.masks(3)))
    assert torch.equal(*found)
