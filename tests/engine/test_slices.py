"""Populations go to a kernel in slices: the same bits, and Ctrl-C comes through between two of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optprune_fast.engine import slices
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.population import Population
from optprune_fast.engine.slices import FEWEST, Slices
from optprune_fast.runtime import native

needs_native = pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")


class Clock:
    """A kernel whose candidates take `seconds` each, and what it was given."""

    def __init__(self, seconds: float, monkeypatch) -> None:
        self.now, self.seconds = 0.0, seconds
        self.sizes: list[int] = []
        monkeypatch.setattr(slices, "perf_counter", lambda: self.now)
        monkeypatch.setenv("OPTPRUNE_THREADS", "2")

    def __call__(self, words: Tensor) -> Tensor:
        self.sizes.append(len(words))
        self.now += self.seconds * len(words)
        return words[:, 0].double()


@pytest.mark.parametrize(("seconds", "sizes"), [
    (1 / 1024, [8, 992]),
    (1 / 128, [8, *[124] * 8]),  # of like size, none longer than a second
    (16.0, [8] * 125),           # never fewer than keep the threads at work
])
def test_a_slice_takes_at_most_a_second(seconds: float, sizes: list[int], monkeypatch):
    kernel = Clock(seconds, monkeypatch)
    assert torch.equal(Slices().sums(kernel, torch.arange(1000)[:, None], 50), torch.arange(1000).double())
    assert kernel.sizes == sizes


def test_what_is_short_is_one_call_from_the_second_time_on(monkeypatch):
    clock, words = Clock(1e-5, monkeypatch), torch.arange(1000)[:, None]
    cut = Slices()
    cut.sums(clock, words, 50)
    clock.sizes.clear()
    for _ in range(3):
        cut.sums(clock, words, 50)
    assert clock.sizes == [1000] * 3
    assert cut.sums(clock, words[:0], 50).shape == (0,)


@needs_native
@pytest.mark.parametrize("P", [1, 5, 9, 33])
def test_slices_do_not_change_a_bit(mlp, P: int, monkeypatch):
    ev, masks = Evaluator(mlp.model, mlp.data, backend="native"), mlp.masks(P)
    ev(masks)
    whole = ev(masks)
    monkeypatch.setattr(slices, "SECONDS", 0.0)
    monkeypatch.setenv("OPTPRUNE_THREADS", "1")
    seen: list[int] = []
    plain = Population.sums
    monkeypatch.setattr(Population, "sums", lambda self, words, *more: seen.append(len(words)) or plain(
        self, words, *more))
    assert torch.equal(ev(masks), whole)
    assert (sum(seen), max(seen) <= FEWEST) == (P, True)


@needs_native
def test_an_interrupt_between_slices_passes_through(mlp, monkeypatch):
    ev, masks = Evaluator(mlp.model, mlp.data, backend="native"), mlp.masks(20)
    wanted = ev(masks)
    plain, calls = Population.sums, []

    def interrupted(self, *args):
        calls.append(len(args[0]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(slices, "SECONDS", 0.0)
        patch.setenv("OPTPRUNE_THREADS", "1")
        patch.setattr(Population, "sums", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ev(masks)
    assert len(calls) == 2
    assert torch.equal(ev(masks), wanted)
