"""Masks that lie on a device stay there, and nothing waits for it.

Here the device is torch's "meta", which has no values: to read one is an error. What would wait on a GPU for another
reason, a copy from memory that is not sent ahead, `NoWait` refuses.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from optprune_fast.masks import operators
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, crossover, mutate, random_masks
from optprune_fast.masks.packed import PackedMasks

LAYOUT = MaskLayout.from_shapes({"a": (3, 65), "b": (4, 128)})
META = torch.device("meta")


class NoWait(TorchDispatchMode):
    """Refuses operations that take tensors of both devices, numbers aside, and copies between them that would wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        devices = {t.device.type for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.dim()}
        if func is torch.ops.aten._to_copy.default:
            assert kwargs.get("non_blocking") or devices == {torch.device(kwargs.get("device", *devices)).type}, (
                "a copy between devices waits")
        else:
            assert len(devices) < 2, f"{func} gets tensors of {devices}: it copies one, and waits"
        return func(*args, **kwargs)


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch):
    """In the place of choose_bits something that gives the shape alone: its kernels are told no number."""

    def choose_bits(words: Tensor, counts: Tensor, seeds: Tensor, *, check: bool) -> Tensor:
        assert not check
        assert words.device == counts.device == seeds.device == META
        assert counts.shape == seeds.shape == words.shape[:1]
        return torch.empty_like(words)

    monkeypatch.setattr(operators, "choose_bits", choose_bits)


def some(P: int) -> PackedMasks:
    return PackedMasks._of(LAYOUT, torch.empty(P, LAYOUT.W, dtype=torch.int64, device=META))


def is_there(masks: PackedMasks, P: int) -> bool:
    return masks.device == META and masks.words.shape == (P, LAYOUT.W)


SEEDS = candidate_seeds(0, 0, 5)
THERE = SEEDS.to(META)


@pytest.mark.parametrize("make", [
    pytest.param(lambda: random_masks(LAYOUT, 70, THERE), id="random"),
    pytest.param(lambda: crossover(some(5), some(5), SEEDS, check=False), id="crossover"),
    pytest.param(lambda: crossover(some(5), some(5), SEEDS.tolist(), check=False), id="crossover-list-of-seeds"),
    pytest.param(lambda: mutate(some(5), 3, SEEDS), id="mutate"),
    pytest.param(lambda: mutate(some(5), torch.arange(5), SEEDS, core=some(1), within=some(1)), id="mutate-within"),
    pytest.param(lambda: mutate(some(5), torch.arange(5, device=META), THERE), id="mutate-all-there"),
    pytest.param(lambda: ~(some(5) & some(1) | some(5) ^ some(5)), id="words"),
    pytest.param(lambda: some(9)[torch.tensor([4, 0, 0, 8, 1])], id="picked-by-number"),
    pytest.param(lambda: some(9)[[4, 0, 0, 8, 1]], id="picked-by-list"),
    pytest.param(lambda: some(9)[torch.arange(9) < 5], id="picked-by-flags"),
    pytest.param(lambda: PackedMasks.cat([some(2), some(8)[1:4]]), id="joined"),
])
def test_masks_are_made_without_a_wait(make):
    with NoWait():
        assert is_there(make(), 5)


def test_counts_are_made_without_a_wait():
    with NoWait():
        counts = some(5).count(), some(5).overlap(some(1))
    assert all(c.device == META and c.shape == (5,) for c in counts)


@pytest.mark.parametrize("flags", [torch.tensor([True, False]), [True] * 4, torch.ones(3, 2, dtype=torch.bool)])
def test_flags_for_another_number_of_masks_are_an_error_as_on_a_cpu(flags):
    for masks in (some(3), PackedMasks.full(LAYOUT)[[0, 0, 0]]):
        with pytest.raises(IndexError):
            masks[flags]


def test_no_numbers_pick_no_masks():
    assert some(3)[[]].words.shape == (0, LAYOUT.W)


def test_the_layout_is_sent_once():
    first = LAYOUT.valid_on(META)
    assert LAYOUT.valid_on("meta") is first
    assert LAYOUT.valid_on("cpu") is LAYOUT.valid


def test_a_layout_is_pickled_without_what_lies_on_a_device():
    LAYOUT.valid_on(META)
    again = pickle.loads(pickle.dumps(LAYOUT))
    assert vars(again) == {"layers": LAYOUT.layers}
    assert again == LAYOUT
    assert torch.equal(again.valid_on("cpu"), LAYOUT.valid)


@pytest.mark.parametrize("wait", [
    lambda: crossover(some(5), some(5), SEEDS),                       # compares budgets
    lambda: random_masks(LAYOUT, 70, SEEDS, core=some(1)),            # counts the core
    lambda: torch.arange(5).to(META),
    lambda: some(5).words[torch.tensor([0])],
])
def test_the_gate_sees_a_wait(wait):
    with NoWait(), pytest.raises((AssertionError, NotImplementedError, RuntimeError)):
        wait()
