"""topk_threshold in Numba on more weights than it lists: samples, brackets that miss, lists, and what passes cost."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from optprune_fast.ops.topk_threshold import operation, topk_threshold
from optprune_fast.ops.topk_threshold.reference import topk_threshold_reference
from optprune_fast.testing.weights import MADE, normal, ranks

if operation.missing("numba") is not None:
    pytest.skip("Numba is not here", allow_module_level=True)

from optprune_fast.ops.topk_threshold import numba_impl, numba_pass, numba_sample

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
N = 70_016  # enough for a sample; below, all keys are listed


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry for each read of all weights so far: whether it was for the pool."""
    seen: list[bool] = []
    collect = numba_pass.collect

    def counting(tiles: Any, levels: Any, drop: bool, pool: bool, *rest: Any) -> None:
        seen.append(pool)
        collect(tiles, levels, drop, pool, *rest)

    monkeypatch.setattr(numba_pass, "collect", counting)
    return seen


def assert_as_sorted(tensors: list[Tensor], k: int, pool: int = 0, hint: float | None = None,
                     nan: str = "raise") -> None:
    threshold, words, pool_words = topk_threshold_reference(tensors, k, pool, nan)
    got = topk_threshold(tensors, k, pool, backend="numba", hint=hint, nan=nan)
    assert got.threshold == threshold or (math.isnan(got.threshold) and math.isnan(threshold))
    for ours, wanted in zip(got.words + (got.pool_words or []), words + (pool_words if pool else []), strict=True):
        assert torch.equal(ours, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MADE)
def test_bits_equal_the_sort(name: str, dtype: torch.dtype) -> None:
    weight = MADE[name](N).to(dtype).view(64, -1)
    for k, pool in ranks(N, int(weight.count_nonzero())):
        assert_as_sorted([weight], k, pool)


@pytest.mark.parametrize("columns", [9, 27, 100, 1000, 70_001, 131_072])
def test_rows_of_any_width_start_on_a_word(columns: int) -> None:
    rows = max(1, 150_000 // columns)
    weight = normal(rows * columns).view(rows, columns).bfloat16()  # many ties
    for k, pool in ((rows * columns // 10, 0), (rows * columns // 2, rows * columns // 5)):
        assert_as_sorted([weight], k, pool)


@pytest.mark.parametrize("dtypes", [DTYPES, DTYPES[:3], DTYPES[1:2]], ids=["all", "narrow", "float16"])
def test_thousands_of_small_tensors_in_one_call(dtypes: tuple[torch.dtype, ...]) -> None:
    weights, sizes = normal(120_000), [1, 5, 63, 64, 65, 9, 27]
    tensors = [weights[i : i + sizes[i % len(sizes)]].to(dtypes[i % len(dtypes)]) for i in range(2000)]
    n = sum(t.numel() for t in tensors)
    for k, pool in ((n // 10, n // 10), (n // 2, 0), (0, 9), (n, 0)):
        assert_as_sorted(tensors, k, pool)


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = MADE["half pruned"](300_000)
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("OPTPRUNE_THREADS", threads)
        assert_as_sorted([weight], 30_000, 150_000)


def sampled(weight: Tensor) -> Tensor:
    """The places that a sample looks at."""
    addresses = torch.from_numpy(numba_sample._choose([weight.view(1, -1)], weight.numel())[:, 0])
    return (((addresses - weight.data_ptr()) // weight.element_size())[:, None] + torch.arange(64)).flatten()


@pytest.mark.parametrize("scale", [100.0, 0.01], ids=["above", "below"])
@pytest.mark.parametrize("values", ["normal", "half pruned", "eight values"])
@pytest.mark.parametrize("pool", [0, 7000])
def test_a_bracket_that_misses_is_found_by_counts(scale: float, values: str, pool: int, passes: list[bool]) -> None:
    """All that the sample sees is far larger, or far smaller, than the rest."""
    weight = MADE[values](N)
    weight[sampled(weight)] *= scale
    assert_as_sorted([weight], N // 3, pool)
    assert passes.count(False) > 1


def test_a_hint_near_the_threshold_is_enough_and_another_costs_passes(passes: list[bool]) -> None:
    weight = normal(N)
    threshold = topk_threshold_reference([weight], N // 10)[0]
    for factor, enough in ((1.0, True), (1.003, True), (0.997, True), (1.1, False), (0.9, False), (1e-30, False),
                           (1e30, False), (0.0, True), (math.inf, True), (math.nan, True)):
        for dtype in (torch.float32, torch.float16):
            passes.clear()
            assert_as_sorted([weight.to(dtype)], N // 10, hint=threshold * factor)
            assert (len(passes) == 1) == enough


@pytest.mark.parametrize("name", ["normal", "half pruned", "constant", "two values", "eight values"])
def test_one_pass_a_rank_is_enough_for_ties_as_for_distinct_weights(name: str, passes: list[bool]) -> None:
    weight = MADE[name](N)
    for k, pool in ((N // 10, 0), (N * 3 // 4, 0), (N // 10, N // 10), (N * 3 // 4, N // 10)):
        passes.clear()
        assert_as_sorted([weight], k, pool)
        assert passes == [False, True][: 1 + (pool > 0)]


def test_a_list_without_room_costs_a_pass_and_no_bit(passes: list[bool]) -> None:
    """Half of the weights lie in the bracket around a hint, and room is made for a 64th of them."""
    weight = 1 + torch.rand(N, generator=torch.Generator().manual_seed(3)) * 1e-2
    assert_as_sorted([weight], N // 2, hint=float(weight.median()))
    assert len(passes) == 2


@pytest.mark.parametrize("nan", ["keep", "drop"])
def test_nan_among_many(nan: str) -> None:
    for share in (0.001, 0.3):
        weight = normal(N)
        weight[torch.rand(N, generator=torch.Generator().manual_seed(4)) < share] = -math.nan
        strange = int(weight.isnan().sum())
        for dtype in DTYPES:
            for k, pool in ((N // 10, N // 10), (strange // 2, 9), (N - strange // 2, 5), (N - strange, 0)):
                assert_as_sorted([weight.to(dtype)], k, pool, nan=nan)


def test_lists_are_no_longer_than_the_sample_lets_expect() -> None:
    """Room, and with it memory, for the keys in the bracket and half as many; not for a fixed share of the weights."""
    weight = normal(1_000_000).view(1, -1)
    words = torch.zeros(1, 15_625, dtype=torch.int64)
    search = numba_impl._Search([weight], numba_impl.cut([weight], [words], None), "raise")
    (bracket,) = search.first_brackets([100_000], None)
    larger, inside = search._collect(bracket, into_pool=False)
    assert larger < 100_000 < larger + inside.sum()
    assert len(search.keys) == len(search.places) < 2 * inside.sum() < 0.06 * 1_000_000
