"""Steps that treat every position alone and take turns, some positions at a time: no bit shows it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.population import Population
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.models import TinyTransformer
from optprune_fast.models.transformer import Layer
from optprune_fast.plan import capture, groups
from optprune_fast.plan.model import state_of
from optprune_fast.runtime import native

pytestmark = pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")
Forward = Callable[[nn.Module, nn.Module, nn.Module, Tensor], Tensor]


class Three(nn.Module):
    """A norm and two linear layers, and what is around them."""

    def __init__(self, features: int, hidden: int, function: Forward) -> None:
        super().__init__()
        self.norm, self.function = nn.LayerNorm(features), function
        self.up, self.down = nn.Linear(features, hidden), nn.Linear(hidden, features)
        self.place = nn.Parameter(torch.randn(11, features))

    def forward(self, x: Tensor) -> Tensor:
        if self.function is placed:
            x = x + self.place
        return self.function(self.norm, self.up, self.down, x)


def plain(norm: nn.Module, up: nn.Module, down: nn.Module, x: Tensor) -> Tensor:
    return down(up(x).relu())


def placed(norm: nn.Module, up: nn.Module, down: nn.Module, x: Tensor) -> Tensor:
    return down(torch.tanh(up(x)))


def block(norm: nn.Module, up: nn.Module, down: nn.Module, x: Tensor) -> Tensor:
    x = x + down(F.gelu(up(norm(x))))
    return x - 0.5 * down(up(x * norm(x)))


def read_later(norm: nn.Module, up: nn.Module, down: nn.Module, x: Tensor) -> Tensor:
    hidden = up(norm(x)).relu()
    return down(hidden) + hidden.mean(2, keepdim=True)


def joined(norm: nn.Module, up: nn.Module, down: nn.Module, x: Tensor) -> Tensor:
    hidden = up(torch.cat([norm(x)[..., :9], x[..., 9:]], 2))
    return down(hidden * hidden.sigmoid())


def turned(norm: nn.Module, up: nn.Module, down: nn.Module, x: Tensor) -> Tensor:
    x = up(norm(x))  # as many positions as features: by shapes alone the turned one would pass for the other
    return down(x + x.transpose(1, 2))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "plain": (lambda: Three(70, 75, plain), (11, 70)),
    "whole groups": (lambda: Three(70, 66, plain), (16, 70)),
    "a constant for each position": (lambda: Three(40, 50, placed), (11, 40)),
    "norms and sums": (lambda: Three(70, 75, block), (19, 70)),
    "a value that is read later": (lambda: Three(40, 50, read_later), (11, 40)),
    "a value made of two": (lambda: Three(40, 50, joined), (11, 40)),
    "as many positions as features": (lambda: Three(13, 13, turned), (13, 13)),
    "attention": (lambda: nn.Sequential(Layer(32, 4), Layer(32, 4)), (10, 32)),
    "pictures in patches": (lambda: TinyTransformer(1, 8, 5, patch=2, width=24, heads=3), (1, 8, 8)),
}


def engine(model: nn.Module, x: Tensor, keep: bool) -> Population:
    layout = MaskLayout.of(model)
    return Population(capture(model.eval(), (x[:3],), {}, layout), layout, state_of(model), len(x), keep=keep)


@pytest.mark.parametrize("group", [3, 8])
@pytest.mark.parametrize("name", NETS)
def test_no_bit_shows_who_took_turns(name: str, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    monkeypatch.setattr(groups, "CACHED", 0)
    monkeypatch.setattr(groups, "GROUP", group)
    model, x = NETS[name][0](), torch.randn(37, *NETS[name][1])
    layout = MaskLayout.of(model)
    # listed, read from words, dense
    masks = [random_masks(layout, round(share * layout.n), candidate_seeds(7, 0, 3)) for share in (0.02, 0.3, 1.0)]
    for isa in native.isas():
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
        found, wanted = engine(model, x, keep=False), engine(model, x, keep=True)
        assert len(found.program.runs) > len(found.program.steps)
        assert found.program.sizes["narrow"] < wanted.program.sizes["narrow"]
        assert [step for _, step in wanted.program.runs] == wanted.program.steps
        for some in masks:
            out, whole = (one.outputs(some.words, one.turn({0: x}, len(x), None)) for one in (found, wanted))
            assert whole.count_nonzero() > 0
            assert torch.equal(out, whole)


def parts(function: Forward, shape: tuple[int, int], hidden: int) -> list[list[int]]:
    """Of each step of a network its parts' positions, as many as it has parts."""
    program = engine(Three(shape[1], hidden, function), torch.randn(9, *shape), keep=False).program
    return [[step.a.shape[1] for index, step in program.runs if index == k and step.op == "linear"]
            for k in range(len(program.steps))]


def test_values_that_a_cache_holds_take_no_turns() -> None:
    assert max(len(some) for some in parts(plain, (19, 40), 50)) == 1
    assert [some for some in parts(plain, (19, 300), 600) if some] == [[8, 8, 3]] * 2


def test_a_single_group_takes_no_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "CACHED", 0)
    assert max(len(some) for some in parts(plain, (8, 40), 50)) == 1
    assert max(len(some) for some in parts(plain, (9, 40), 50)) == 2


def test_explain_adds_up_the_parts_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "CACHED", 0)
    ev = Evaluator(Three(40, 50, plain), (torch.randn(9, 11, 40), None), "mse_to_dense", backend="native")
    ev(random_masks(ev.layout, ev.layout.n // 2, [1, 2]))
    said = [line.split()[0] for line in ev.explain().splitlines()]
    assert (said.count("up.weight"), said.count("down.weight")) == (1, 1)
