"""Neither the instruction set nor the number of threads changes a bit; skipping a zero changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from optprune_fast.ops import choose_bits, masked_conv2d, masked_linear, sparse_conv2d, sparse_linear
from optprune_fast.ops.words import pack, unpack
from optprune_fast.runtime import native
from optprune_fast.testing.sample import Sample
from optprune_fast.testing.samples import samples

OPERATIONS: dict[str, Callable[..., Any]] = {
    module.operation.name: module.operation.implementation("native").run
    for module in (choose_bits, masked_conv2d, masked_linear, sparse_conv2d, sparse_linear)
}
VARIANTS = list(itertools.product(native.isas(), (1, 2, 3)))


def whole(name: str, sample: Sample) -> tuple[Any, ...]:
    """The arguments of an implementation: those of the function, defaults filled in."""
    defaults = ((1, 1), (0, 0), (1, 1), 1)
    given = sample.arguments
    return (*given, *defaults[len(given) - 3 :]) if name == "masked_conv2d" else given


CASES = [pytest.param(name, sample, id=f"{name}-{sample.name}") for name in OPERATIONS for sample in samples(name)]


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_instruction_sets_and_threads_agree_to_the_bit(name, sample, forced):
    arguments = whole(name, sample)
    first = forced("scalar", 1, OPERATIONS[name], *arguments)
    for isa, threads in VARIANTS:
        assert torch.equal(forced(isa, threads, OPERATIONS[name], *arguments), first), (isa, threads)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("density", [0.02, 0.1, 0.2, 1.0])  # on both sides of where the kernel lists fewer columns
def test_many_tiles_agree_to_the_bit(own, density, forced):
    """Enough work for every thread, blocks of several tiles, several panels of columns."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(*([4] if own else []), 300, 1500, generator=generator)
    weight = torch.randn(37, 1500, generator=generator)
    words = pack(torch.rand(4, 37, 1500, generator=generator) < density)
    first = forced(native.isas()[-1], 1, OPERATIONS["masked_linear"], x, weight, words)
    for isa, threads in VARIANTS:
        assert torch.equal(forced(isa, threads, OPERATIONS["masked_linear"], x, weight, words), first), (isa, threads)


@pytest.mark.parametrize("isa", native.isas())
def test_an_output_is_one_ascending_accumulator(isa, forced):
    """Each kept product is added in turn by one fused multiply-add, here computed in float64 and rounded once."""
    generator = torch.Generator().manual_seed(2)
    x, weight = torch.randn(3, 70, generator=generator), torch.randn(2, 70, generator=generator)
    mask = torch.rand(1, 2, 70, generator=generator) < 0.5
    expected = torch.zeros(1, 3, 2)
    for i in range(70):
        products = x[:, i : i + 1].double() * weight[:, i].double()  # exact: 48 bits of 53
        expected = torch.where(mask[:, None, :, i], (expected.double() + products).float(), expected)
    result = forced(isa, 1, OPERATIONS["masked_linear"], x, weight, pack(mask))
    # A sum of float64 is itself rounded, so that about one in 2^29 results may differ: these 420 do not.
    assert torch.equal(result, expected)


@pytest.mark.parametrize("isa", native.isas())
def test_a_skipped_weight_and_a_zero_weight_are_the_same(isa, forced):
    x, weight, words = samples("masked_linear")[0].arguments
    everything = pack(torch.ones(1, *weight.shape, dtype=torch.bool))
    skipped = forced(isa, 1, OPERATIONS["masked_linear"], x, weight, words)
    for p in range(len(words)):
        zeroed = weight * unpack(words[p], weight.shape[1])
        multiplied = forced(isa, 1, OPERATIONS["masked_linear"], x, zeroed, everything)
        assert torch.equal(skipped[p], multiplied[0])


@pytest.mark.parametrize(("isa", "threads"), VARIANTS)
def test_denormal_numbers_are_kept_whatever_the_caller_has_set(isa, threads, forced):
    x = torch.full((200, 1000), 1e-20)
    weight, words = torch.full((30, 1000), 1e-20), pack(torch.ones(4, 30, 1000, dtype=torch.bool))
    kept = forced(isa, threads, OPERATIONS["masked_linear"], x, weight, words)
    assert kept.min() > 0  # 1,000 products of 1e-40, each below the smallest normal number
    assert torch.set_flush_denormal(True), "this CPU cannot flush denormal numbers"
    try:
        flushing = forced(isa, threads, OPERATIONS["masked_linear"], x, weight, words)
        assert float(torch.tensor(1e-20) * torch.tensor(1e-20)) == 0, "the caller's own mode has been changed"
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(flushing.view(torch.int32), kept.view(torch.int32))
