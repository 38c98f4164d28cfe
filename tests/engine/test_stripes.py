"""Convolutions that take turns, and sums that lie where one side was: no bit shows either."""

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
from optprune_fast.models import LeNet5, ResNet20
from optprune_fast.plan import capture, stripes
from optprune_fast.plan.model import state_of
from optprune_fast.plan.program import Step
from optprune_fast.runtime import native

pytestmark = pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")
Forward = Callable[[nn.Module, nn.Module, Tensor], Tensor]


class Two(nn.Module):
    """Two convolutions, and what is around them."""

    def __init__(self, first: nn.Module, second: nn.Module, function: Forward) -> None:
        super().__init__()
        self.first, self.second, self.function = first, second, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.first, self.second, x)


def plain(first: nn.Module, second: nn.Module, x: Tensor) -> Tensor:
    return second(first(x).relu())


def block(first: nn.Module, second: nn.Module, x: Tensor) -> Tensor:
    x = x.tanh()  # memory of the tile's own, over which the sum may be written
    return (second(first(x).relu()) + x).relu()


def chain(first: nn.Module, second: nn.Module, x: Tensor) -> Tensor:
    x = x.tanh()
    return second((first(x) + x).relu())


def pools(first: nn.Module, second: nn.Module, x: Tensor) -> Tensor:
    return F.max_pool2d(second(F.max_pool2d(first(x).relu(), 2)).relu(), 2)


def conv(a: int, b: int, size: int | tuple[int, int] = 3, **more: int | tuple[int, int]) -> nn.Module:
    return nn.Conv2d(a, b, size, **more)  # type: ignore[arg-type]


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "padded": (lambda: Two(conv(2, 3, padding=1), conv(3, 4, padding=1), plain), (2, 13, 5)),
    "not padded": (lambda: Two(conv(2, 3, 5), conv(3, 4, 5), plain), (2, 17, 12)),
    "padded across alone": (lambda: Two(conv(2, 3), conv(3, 4, (1, 3), padding=(0, 1)), plain), (2, 12, 5)),
    "padded down alone": (lambda: Two(conv(2, 3), conv(3, 4, (3, 1), padding=(1, 0)), plain), (2, 12, 5)),
    "padded more than the first": (lambda: Two(conv(2, 3), conv(3, 4, 5, padding=2), plain), (2, 12, 7)),
    "dilated": (lambda: Two(conv(2, 3), conv(3, 4, padding=2, dilation=2), plain), (2, 14, 7)),
    "grouped": (lambda: Two(conv(2, 4), conv(4, 6, padding=1, groups=2), plain), (2, 14, 7)),
    "strided": (lambda: Two(conv(2, 3, stride=2, padding=1), conv(3, 4, padding=1), plain), (2, 19, 9)),
    "pooled": (lambda: Two(conv(2, 3), conv(3, 4, padding=1), pools), (2, 33, 13)),
    "a sum": (lambda: Two(conv(3, 3, padding=1), conv(3, 3, padding=1), block), (3, 13, 6)),
    "a sum of single pixels": (lambda: Two(conv(3, 3, 1), conv(3, 3, 1), block), (3, 13, 6)),
    "a sum with what it reads": (lambda: Two(conv(3, 3, padding=1), conv(3, 3, padding=1), chain), (3, 13, 6)),
    "lenet5": (lambda: LeNet5(2, 28), (2, 28, 28)),
    "resnet20": (lambda: ResNet20(2, 5, width=3), (2, 24, 9)),
}


def engine(model: nn.Module, x: Tensor, keep: bool) -> Population:
    layout = MaskLayout.of(model)
    return Population(capture(model.eval(), (x[:3],), {}, layout), layout, state_of(model), len(x), keep=keep)


def sums_in_place(steps: list[Step]) -> int:
    return sum(step.b is not None and step.op == "conv2d" and step.out.buffer is step.b.buffer for step in steps)


@pytest.mark.parametrize("stripe", [4, 8])
@pytest.mark.parametrize("name", NETS)
def test_no_bit_shows_who_took_turns(name: str, stripe: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    monkeypatch.setattr(stripes, "CACHED", 0)
    monkeypatch.setattr(stripes, "STRIPES", (stripe,))
    model, x = NETS[name][0](), torch.randn(37, *NETS[name][1])
    layout = MaskLayout.of(model)
    masks = [random_masks(layout, round(share * layout.n), candidate_seeds(7, 0, 3)) for share in (0.1, 0.6, 1.0)]
    for isa in native.isas():
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
        found, wanted = engine(model, x, keep=False), engine(model, x, keep=True)
        assert len(found.program.runs) > len(found.program.steps)
        assert [step for _, step in wanted.program.runs] == wanted.program.steps
        for some in masks:
            out, whole = (one.outputs(some.words, one.turn({0: x}, len(x), None)) for one in (found, wanted))
            assert whole.count_nonzero() > 0
            assert torch.equal(out, whole)


def test_small_pictures_take_no_turns() -> None:
    model, x = NETS["padded"][0](), torch.randn(9, 2, 13, 5)
    program = engine(model, x, keep=False).program
    assert [step for _, step in program.runs] == program.steps


@pytest.mark.parametrize(("channels", "rows"), [(16, 8), (32, 4)])
def test_a_stripe_has_as_many_rows_as_its_room_holds(channels: int, rows: int) -> None:
    model = Two(conv(3, channels, padding=1), conv(channels, channels, padding=1), plain)
    program = engine(model, torch.randn(9, 3, 32, 32), keep=False).program
    heights = [step.numbers[3] for index, step in program.runs if index == 1 and step.op == "conv2d"]
    assert heights == [rows] * (32 // rows)


def test_a_sum_lies_where_the_picture_was_that_nobody_reads_again() -> None:
    def make(function: Forward) -> list[Step]:
        x = torch.randn(9, 3, 6, 6)
        return engine(Two(conv(3, 3, 1), conv(3, 3, 1), function), x, keep=False).program.steps

    assert sums_in_place(make(block)) == 1
    assert sums_in_place(make(lambda a, b, x: (lambda y: (b(a(y).relu()) + y).relu() * y)(x.tanh()))) == 0
    assert sums_in_place(make(chain)) == 0  # its neighbours need what it would write over
    bordered = Two(conv(3, 3, padding=1), conv(3, 3, padding=1), block)
    assert sums_in_place(engine(bordered, torch.randn(9, 3, 6, 6), keep=False).program.steps) == 0
    assert sums_in_place(make(lambda a, b, x: b(a(x).relu()) + x)) == 0  # the samples serve all candidates
    assert sums_in_place(engine(ResNet20(3, 5, width=2), torch.randn(9, 3, 8, 8), keep=False).program.steps) == 6
    assert sums_in_place(engine(ResNet20(3, 5, width=2), torch.randn(9, 3, 8, 8), keep=True).program.steps) == 0


def test_explain_adds_up_the_parts_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stripes, "CACHED", 0)
    ev = Evaluator(NETS["padded"][0](), (torch.randn(9, 2, 13, 5), None), "mse_to_dense", backend="native")
    ev(random_masks(ev.layout, ev.layout.n // 2, [1, 2]))
    said = [line.split()[0] for line in ev.explain().splitlines()]
    assert (said.count("first.weight"), said.count("second.weight")) == (1, 1)


def test_candidates_that_share_a_tile_are_evaluated_each_on_its_own() -> None:
    """Samples of more than the cache that population.cpp reckons with; more candidates than go together."""
    torch.manual_seed(5)
    model, x = LeNet5(1, 28), torch.randn(360, 1, 28, 28)
    one, masks = engine(model, x, keep=False), random_masks(MaskLayout.of(model), 9000, range(1, 12))
    samples, targets = one.turn({0: x}, len(x), None), torch.randint(10, (len(x),))
    apart = torch.cat([one.sums(masks.words[p:p + 1], samples, targets, "cross_entropy") for p in range(len(masks))])
    assert len(set(apart.tolist())) == len(masks)
    assert torch.equal(one.sums(masks.words, samples, targets, "cross_entropy"), apart)
