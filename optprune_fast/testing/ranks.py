"""Cases for the GPU kernels of topk_threshold, small enough for an interpreter; every way to a key is taken."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from optprune_fast.ops.topk_threshold.device_plan import Plan, make_plan, value_of
from optprune_fast.ops.topk_threshold.reference import topk_threshold_reference
from optprune_fast.ops.words import as_rows, word_count
from optprune_fast.testing.poison import Poisoned, poison_all

Enqueue = Callable[[Plan, bool], Tensor]  # plan, whether NaN ranks last -> [key, NaN], as the implementations' `launch`

BRACKETED = {"direct": False, "samples": 4000}


@dataclass(frozen=True, eq=False)
class RankCase:
    """A call, and how it is to be planned (`make_plan`). as_they_are: where the tensors lie in memory is the case."""

    name: str
    tensors: list[Tensor]
    k: int
    pool: int = 0
    nan: str = "raise"
    plan: dict[str, Any] = field(default_factory=lambda: dict(BRACKETED))
    as_they_are: bool = False


@functools.cache
def rank_cases() -> tuple[RankCase, ...]:
    """All cases.

    >>> [case.name for case in rank_cases()][:2]
    ['bracket', 'bracket-and-pool']
    """
    return tuple(_rank_cases())


def judge_ranks(enqueue: Enqueue, tile_words: int, case: RankCase, device: str = "cpu") -> None:
    """Raise an `AssertionError` unless the kernels give the bits of the sort, and touch nothing but the tensors."""
    threshold, *expected = topk_threshold_reference(case.tensors, case.k, case.pool, case.nan)
    rows = [as_rows(t.to(device)) for t in case.tensors]
    guards: list[Poisoned] = []
    if not case.as_they_are:
        rows, guards = poison_all(rows)  # the poison is NaN, and would be found
    outs = [[Poisoned(torch.empty(r.shape[0], word_count(r.shape[1]), dtype=torch.int64, device=device), empty=True)
             for r in rows] for _ in range(2 if case.pool else 1)]
    words, pool_words = [o.tensor for o in outs[0]], [o.tensor for o in outs[-1]] if case.pool else None
    plan = make_plan(rows, tile_words, case.k, case.pool, words, pool_words, **case.plan)
    key, nans = enqueue(plan, case.nan == "drop").tolist()
    assert nans == 0 or case.nan == "keep", "NaN was found where there is none"
    if case.k:
        torch.testing.assert_close(value_of(key), threshold, rtol=0, atol=0, equal_nan=True)
    for got, wanted in zip(outs, expected, strict=False):
        for out, right in zip(got, wanted, strict=True):
            assert torch.equal(out.tensor.cpu(), right), "bits differ"
            out.assert_surroundings_intact()
    for guard in guards:
        guard.assert_intact()


def _rank_cases() -> Iterator[RankCase]:
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    weight = normal(96, 256)  # 24,576: several tiles, all of them whole
    n = weight.numel()
    yield RankCase("bracket", [weight], n // 10)
    yield RankCase("bracket-and-pool", [weight], n // 10, n // 7)
    yield RankCase("pool-overlaps-the-bracket", [weight], n // 2, 9)
    yield RankCase("first", [weight], 1, 1)
    yield RankCase("all", [weight], n)
    yield RankCase("none-and-a-pool", [weight], 0, n // 3)
    yield RankCase("direct", [weight], n // 10, n // 7, plan={"direct": True})
    mixed = [normal(16, 128).bfloat16(), normal(24, 65), normal(40, 128).half(), normal(60, 9).half(),
             normal(50, 25).bfloat16(), normal(9000), normal(1)]
    yield RankCase("types-and-narrow-rows", mixed, 4000, 3000)
    yield RankCase("direct-types-and-narrow-rows", mixed, 4000, 3000, plan={"direct": True})
    tiny = [normal(1 + i % 7) for i in range(20)]
    yield RankCase("many-tiny-tensors", tiny, 30, 9, plan={"direct": False, "samples": 64})

    # Dense ties: the bracket is one key, or a dense key is one of its ends, or all keys are few and dense.
    pruned = weight * (torch.rand(weight.shape, generator=generator) < 0.25)
    nonzero = int((pruned != 0).sum())
    yield RankCase("zeros", [pruned, pruned[:1]], nonzero + 9000)
    yield RankCase("zeros-in-the-pool", [pruned], nonzero - 2000, 8000)
    yield RankCase("up-to-the-zeros", [pruned], nonzero, 1)
    yield RankCase("one-zero", [pruned], nonzero + 1, 5000)
    levels = (4 * weight).round().clamp(-4, 4) / 4
    ones = int((levels.abs() == 1).sum())
    yield RankCase("levels", [levels, levels[:3, :65]], n // 2, n // 4)
    yield RankCase("last-of-a-level", [levels.bfloat16()], ones, 3)
    yield RankCase("constant", [torch.full((70, 130), -0.5), torch.full((5,), 0.5)], 7001, 1001)

    # What the sample says is wrong, or its list has no room.
    for name, ranks in {"too-high": (1, 3), "too-low": (3990, 4000), "absent": (0, 4001)}.items():
        wrong = {**BRACKETED, "bracket": lambda *_, ranks=ranks: ranks}
        yield RankCase(f"bracket-{name}", [weight], n // 3, n // 3, plan=wrong)
    yield RankCase("list-overflows", [weight[:24]], n // 12, n // 12, plan={"direct": False, "samples": 64, "spare": 0})
    narrow = {**BRACKETED, "bracket": lambda n, rank, samples: (rank * samples // n - 160, rank * samples // n - 120)}
    yield RankCase("only-the-pool-misses", [weight], 0, n // 3, plan=narrow)

    holes = torch.where(torch.rand(weight.shape, generator=generator) < 0.1, torch.nan, weight)
    missing = int(holes.isnan().sum())
    yield RankCase("nan-kept", [weight[:9], holes], n // 3, 99, nan="keep")
    yield RankCase("nan-kept-alone", [holes], missing // 2, missing // 4, nan="keep", plan={"direct": True})
    yield RankCase("nan-dropped", [holes.half()], n - missing + 30, missing // 2, nan="drop")
    extremes = torch.where(weight > 1, torch.inf, torch.where(weight < -1, 1e-45, weight))
    yield RankCase("infinities-and-denormals", [extremes, -extremes], n // 4, n)

    yield RankCase("rows-amid-others", [weight[:, 3:195], weight[:, :64], weight[:5, :33].expand(5, 33)], 8000, 500)
    yield RankCase("rows-that-are-one", [weight[:1].expand(70, 256)], 5000, 500)
    yield RankCase("not-at-16-bytes", [weight.flatten()[1:20001], weight.half().flatten()[3:9000]], 6000, 900,
                   as_they_are=True)
