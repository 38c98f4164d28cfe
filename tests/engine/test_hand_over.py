"""Dense candidates go to torch where the rule says so: each by what it keeps, in every run and beside whomever."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optprune_fast.engine import hand_over
from optprune_fast.engine.cost import Coefficients, counts_of
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.hand_over import HandOver, torch_counts
from optprune_fast.engine.shipped import SHIPPED, kind_of
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.models import MLP
from optprune_fast.runtime import native
from optprune_fast.testing.tolerance import assert_as_accurate

pytestmark = pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")
# Words and rows cost ours 2 and torch 1 a weight, so that ours is slower by the margin from 0.55 on.
RATES = Coefficients({"linear words": 2.0, "linear dense": 2.0, "conv2d skip": 2.0, "conv2d dense": 2.0,
                      "torch linear": 1.0, "torch conv2d": 1.0})
SHARES = (0.3, 0.9, 0.5, 1.0)


@pytest.fixture(autouse=True)
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand_over, "SHIPPED", {kind_of(native.isa()): RATES})
    for wish in ("OPTPRUNE_BACKEND", "OPTPRUNE_ISA"):
        monkeypatch.delenv(wish, raising=False)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The masks that went to torch, in any order."""
    seen: list[Tensor] = []
    own = HandOver._candidate

    def candidate(self: HandOver, words: Tensor, *rest) -> Tensor:  # type: ignore[no-untyped-def]
        seen.append(words)
        return own(self, words, *rest)
    monkeypatch.setattr(HandOver, "_candidate", candidate)
    return seen


def masks_of(layout: MaskLayout, shares: tuple[float, ...] = SHARES) -> PackedMasks:
    return PackedMasks.cat([random_masks(layout, round(share * layout.n), [i]) for i, share in enumerate(shares)])


def evaluator_of(case, **more) -> Evaluator:  # type: ignore[no-untyped-def]
    return Evaluator(case.model, case.data, **{"backend": "auto", "reuse": (), **more})


@pytest.mark.parametrize("name", ["mlp", "lenet5", "resnet20"])
@pytest.mark.parametrize("objective", ["cross_entropy", "error", "kl_to_dense", "mse_to_dense"])
def test_a_mixed_population_goes_both_ways_and_is_as_accurate(network, name: str, objective: str, given) -> None:
    case = network(name)
    ev, own = (evaluator_of(case, objective=objective, hand_over=allowed) for allowed in (True, False))
    masks = masks_of(ev.layout)
    got, wanted = ev(masks), own(masks)
    assert len(given) == 2
    assert all(any(torch.equal(words, masks.words[p]) for words in given) for p in (1, 3))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
    assert torch.equal(got[[0, 2]], wanted[[0, 2]])  # those that stay keep their bits


def test_handed_over_losses_are_as_accurate_as_a_plain_loop(mlp, given) -> None:
    ev = evaluator_of(mlp)
    masks = masks_of(ev.layout, (0.8, 0.9, 1.0))

    def losses(outputs: Tensor) -> Tensor:
        return torch.stack([torch.nn.functional.cross_entropy(out, mlp.targets) for out in outputs])
    exact = losses(mlp.loop(masks))
    torchs = losses(mlp.loop(masks, torch.float32))
    assert_as_accurate(ev(masks), torchs, exact, terms=100, magnitude=float(exact.max()))
    assert len(given) == 3


def test_threads_and_who_else_is_evaluated_change_no_bit(network, given, monkeypatch) -> None:
    case = network("lenet5")
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OPTPRUNE_THREADS", threads)
        ev = evaluator_of(case, reuse=("duplicates", "prefix"))
        masks = masks_of(ev.layout)
        found += [ev(masks), torch.cat([ev(one) for one in masks]), ev(masks, parents=masks)]
    assert len(given) == 2 * 3 * 2
    assert all(torch.equal(one, found[0]) for one in found)


@pytest.mark.parametrize(("more", "why"), [
    ({"backend": "native"}, "none: backend 'native' was asked for"), ({"hand_over": False}, "none: hand_over=False"),
])
def test_what_was_asked_for_is_kept_and_said(mlp, given, more: dict[str, object], why: str) -> None:
    ev = evaluator_of(mlp, **more)
    ev(masks_of(ev.layout))
    assert not given
    assert f"handed   {why}" in ev.explain()


@pytest.mark.parametrize(("variable", "value"), [("OPTPRUNE_BACKEND", "native"), ("OPTPRUNE_ISA", "scalar")])
def test_what_the_environment_asks_for_is_kept(mlp, given, monkeypatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    ev = evaluator_of(mlp)
    ev(masks_of(ev.layout))
    assert not given
    assert f"handed   none: {variable}={value} was asked for" in ev.explain()


def test_explain_states_the_rule(mlp) -> None:
    line = next(line for line in evaluator_of(mlp).explain().splitlines() if line.startswith("handed"))
    ours = 2 * 0.6 * (2310 * (1 - 0.4**5) + 165)  # a row of the first layer is read by five of the second
    assert line == ("handed   to torch from density 0.6, where predicted: "
                    f"{ours / 1e6:.3g} ms a sample on our kernels, {2475 / 1e6:.3g} in torch")


def test_without_a_gain_or_without_coefficients_nothing_is_handed_over(mlp, given, monkeypatch) -> None:
    tie = Coefficients({"torch linear": 1.0, "linear dense": 1.09})
    for shipped, why in (({kind_of(native.isa()): tie}, "predicted at density 1: "),
                         ({}, f"no coefficients are there for {kind_of(native.isa())}")):
        monkeypatch.setattr(hand_over, "SHIPPED", shipped)
        ev = evaluator_of(mlp)
        ev(masks_of(ev.layout))
        assert f"handed   none: {why}" in ev.explain()
    assert not given


def test_weights_are_taken_anew(mlp, given) -> None:
    ev = evaluator_of(mlp)
    masks = masks_of(ev.layout, (1.0,))
    before = ev(masks)
    with torch.no_grad():
        mlp.model.layers[0].weight.mul_(2)
    assert torch.equal(ev(masks), before)
    ev.refresh()
    assert not torch.equal(ev(masks), before)
    assert len(given) == 3


def test_samples_in_pieces_and_streams_give_the_same_bits(given) -> None:
    torch.manual_seed(3)
    model, x, y = MLP([5, 4, 3]), torch.randn(300, 5), torch.randint(3, (300,))
    held = Evaluator(model, (x, y), reuse=())
    streamed = Evaluator(model, [(x[:70], y[:70]), (x[70:], y[70:])], reuse=(), stream=True)
    masks = masks_of(held.layout)
    assert torch.equal(held(masks), streamed(masks))
    assert len(given) == 4


def test_coefficients_of_plain_code_are_those_of_one_kind_of_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, kind in (("x86_64", "scalar"), ("AMD64", "scalar"), ("arm64", "scalar on arm64")):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        assert kind_of("scalar") == kind
        assert kind_of("avx2") == "avx2"


def test_all_that_is_counted_has_a_coefficient(network) -> None:
    for name in ("mlp", "resnet20", "transformer"):
        ev = evaluator_of(network(name))
        runner = ev._compiled.program(ev.batches.kinds[0].example)
        for share in (0.01, 0.5, 1.0):
            for counts in (*counts_of(runner.program, [share] * len(runner.program.layers), runner.lanes),
                           torch_counts(runner.program, 8)):
                for coefficients in SHIPPED.values():
                    assert counts.keys() <= coefficients.nanoseconds.keys()
