"""topk_threshold in C++: what the bits could depend on, and what a call may cost."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from optprune_fast.ops.topk_threshold import native_impl, topk_threshold
from optprune_fast.ops.topk_threshold.reference import topk_threshold_reference
from optprune_fast.runtime import native
from optprune_fast.testing.weights import MADE, normal, ranks

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
N = 70_016  # enough for a sample; below, keys are sorted out without one
Outcome = tuple[float, list[Tensor], list[Tensor]]


def run(tensors: list[Tensor], k: int, pool: int, hint: float | None = None, nan: str = "raise") -> Outcome:
    got = topk_threshold(tensors, k, pool, backend="native", hint=hint, nan=nan)
    return got.threshold, got.words, got.pool_words or [torch.zeros_like(w) for w in got.words]


def assert_same(got: Outcome, expected: Outcome) -> None:
    assert got[0] == expected[0]
    for ours, wanted in zip([*got[1], *got[2]], [*expected[1], *expected[2]], strict=True):
        assert torch.equal(ours, wanted)


@pytest.fixture
def reads(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often each call so far has read all weights."""
    counted: list[int] = []
    module = native.module()

    class Counting:
        @staticmethod
        def topk_threshold(*arguments: Any) -> Any:
            found = module.topk_threshold(*arguments)
            counted.append(found[2])
            return found

    monkeypatch.setattr(native_impl.native, "module", lambda: Counting)
    monkeypatch.setattr(native_impl.native, "isa", lambda: module.isas()[-1])
    return counted


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MADE)
def test_every_instruction_set_gives_the_bits_of_the_sort(name: str, dtype: torch.dtype, forced: Any) -> None:
    weight = MADE[name](N).to(dtype).view(64, -1)
    for k, pool in ranks(N, int(weight.count_nonzero())):
        expected = topk_threshold_reference([weight], k, pool)
        for isa in native.isas():
            assert_same(forced(isa, 1, run, [weight], k, pool), expected)


@pytest.mark.parametrize("columns", [9, 27, 63, 64, 65, 100, 1000, 70_001, 131_072])
def test_rows_of_any_width_start_on_a_word(columns: int, forced: Any) -> None:
    rows = max(1, 150_000 // columns)
    weight = normal(rows * columns).view(rows, columns).to(torch.bfloat16)  # many ties
    for k, pool in ((rows * columns // 10, 0), (rows * columns // 2, rows * columns // 5)):
        expected = topk_threshold_reference([weight], k, pool)
        for isa in native.isas():
            assert_same(forced(isa, 1, run, [weight], k, pool), expected)


def test_threads_change_no_bit_of_a_large_call(forced: Any) -> None:
    shapes = [(2100, 1000), (1, 3), (700, 27), (1_000_000,)]  # a million weights are worth a thread
    for make, k, pool in ((normal, 400_000, 200_000), (MADE["half pruned"], 1_900_000, 0)):
        tensors = [make(math.prod(shape)).view(shape) for shape in shapes]
        first = forced(native.isas()[-1], 1, run, tensors, k, pool)
        assert_same(first, topk_threshold_reference(tensors, k, pool))
        for threads in (2, 3):
            assert_same(forced(native.isas()[-1], threads, run, tensors, k, pool), first)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to count the threads of a process")
def test_a_large_call_uses_the_threads_that_it_is_worth(forced: Any, in_a_fork: Any) -> None:
    weight = normal(3_200_000)
    read, write = os.pipe()

    def count() -> None:  # in a process whose pool is empty
        before = len(os.listdir("/proc/self/task"))
        for part in (weight[:1_500_000], weight):
            forced(native.isas()[-1], 8, run, [part], 300_000, 0)
            os.write(write, bytes([len(os.listdir("/proc/self/task")) - before]))

    assert in_a_fork(count) == 0
    assert list(os.read(read, 2)) == [0, 2]


def test_more_weights_than_32_bits_count(compiled: None) -> None:
    """2^31 zeros that take no memory, and weights behind them: counts, places and ties go beyond 32 bits."""
    zeros = torch.from_numpy(np.zeros(2**31 + 64 * 1000, np.int16)).view(torch.bfloat16)
    zeros[-65:] = torch.arange(1, 66).bfloat16()
    for k, pool in ((65, 1), (2**31 + 7, 0)):
        words, pool_words = (torch.zeros(1, 2**25 + 1000, dtype=torch.int64) for _ in range(2))
        got = topk_threshold(zeros, k, pool, ([words], [pool_words] if pool else None), backend="native")
        assert got.threshold == (1.0 if k == 65 else 0.0)
        assert words[0, -2:].tolist() == [-(2**63), -1]
        if k == 65:
            assert not words[0, :-2].any()
            assert pool_words[0, 0] == 1
            assert not pool_words[0, 1:].any()
        else:  # the ties with the lowest places, 2^31 - 58 of them
            assert bool((words[0, : 2**25 - 1] == -1).all())
            assert words[0, 2**25 - 1] == (1 << 6) - 1
            assert not words[0, 2**25 : -2].any()


def test_thousands_of_small_tensors_in_one_call(forced: Any) -> None:
    weights = normal(120_000)
    tensors, sizes = [], [1, 5, 63, 64, 65, 9, 27]
    for i in range(2000):
        size = sizes[i % len(sizes)]
        tensors.append(weights[i : i + size].to(DTYPES[i % 3]))
    n = sum(t.numel() for t in tensors)
    for k, pool in ((n // 10, n // 10), (n // 2, 0)):
        assert_same(forced(native.isas()[-1], 1, run, tensors, k, pool), topk_threshold_reference(tensors, k, pool))


# ---- brackets


def sampled(n: int) -> Tensor:
    """The weights that a sample of one tensor of n looks at: csrc/kernels/topk_threshold/sample.h."""
    blocks = max(32, int(2 * n ** (2 / 3)) // 64)
    places = []
    for b in range(blocks):
        z = ((b + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        uniform = ((z ^ (z >> 31)) >> 11) * 2.0**-53
        place = min(n - 1, int((b + uniform) * (n / blocks)))
        places.append(min(place // 32 * 32, n - 64))
    return (torch.tensor(places)[:, None] + torch.arange(64)).flatten()


@pytest.mark.parametrize("scale", [100.0, 0.01], ids=["above", "below"])
@pytest.mark.parametrize("values", ["normal", "half pruned", "eight values"])
@pytest.mark.parametrize("pool", [0, 7000])
def test_a_bracket_that_misses_is_found_by_counts(scale: float, values: str, pool: int, reads: list[int]) -> None:
    """All that the sample sees is far larger, or far smaller, than the rest."""
    weight = MADE[values](N)
    weight[sampled(N)] *= scale
    got = run([weight], N // 3, pool)
    assert reads[0] > 1
    assert_same(got, topk_threshold_reference([weight], N // 3, pool))


@pytest.mark.parametrize("scale", [100.0, 0.01], ids=["above", "below"])
def test_a_part_of_the_sample_that_misleads_about_the_sample_costs_no_bit(scale: float) -> None:
    """csrc/kernels/topk_threshold/array.h: 2,048 keys tell those around a rank from the others."""
    n = 400_000
    weight = normal(n)
    seen = sampled(n)
    weight[seen[torch.arange(2048) * len(seen) // 2048]] *= scale
    for k, pool in ((n // 10, n // 10), (n // 2, 0)):
        assert_same(run([weight], k, pool), topk_threshold_reference([weight], k, pool))


def test_a_hint_near_the_threshold_is_enough_and_another_costs_reads(reads: list[int]) -> None:
    weight = normal(N)
    expected = topk_threshold_reference([weight], N // 10)
    for factor in (1.0, 1.003, 0.997, 1.1, 0.9, 1e-30, 1e30, 0.0, math.inf, math.nan):
        assert_same(run([weight], N // 10, 0, hint=expected[0] * factor), expected)
    assert reads[:3] == [1, 1, 1]
    assert min(reads[3:7]) > 1
    assert reads[7:] == [1, 1, 1]


@pytest.mark.parametrize("name", ["normal", "half pruned", "constant", "two values", "eight values"])
def test_one_read_is_enough_for_ties_as_for_distinct_weights(name: str, reads: list[int]) -> None:
    weight = MADE[name](N)
    for k, pool in ((N // 10, 0), (N * 3 // 4, 0), (N // 10, N // 10), (N * 3 // 4, N // 10)):
        assert_same(run([weight], k, pool), topk_threshold_reference([weight], k, pool))
    assert set(reads) == {1}


def test_a_pruned_network_is_pruned_again_in_one_read(reads: list[int]) -> None:
    """The threshold is the smallest weight left: zeros, half of all, lie in the bracket."""
    weight = normal(N)
    weight[normal(N, 1) > 0] = 0
    k = int(weight.count_nonzero())
    for wanted in (k, k - 3, k + 3):
        assert_same(run([weight], wanted, 0), topk_threshold_reference([weight], wanted))
    assert set(reads) == {1}


def test_a_list_that_overflows_costs_reads_and_no_bit(reads: list[int]) -> None:
    """More than 65,536 distinct keys in the bracket: all blocks of the sample lie in the narrow part or in none."""
    n = 400_000
    weight = 1 + torch.rand(n, generator=torch.Generator().manual_seed(3)) * 1e-2
    weight[::640] = 100.0
    got = run([weight], n // 2, 0, hint=float(weight.median()))
    assert reads[0] > 1
    assert_same(got, topk_threshold_reference([weight], n // 2))


@pytest.mark.parametrize("nan", ["keep", "drop"])
def test_nan_among_many(nan: str, forced: Any) -> None:
    for share in (0.001, 0.3):
        weight = normal(N)
        weight[torch.rand(N, generator=torch.Generator().manual_seed(4)) < share] = -math.nan
        strange = int(weight.isnan().sum())
        for k, pool in ((N // 10, 0), (N // 10, N // 10), (strange // 2, 9), (N - strange // 2, 5), (N - strange, 0)):
            threshold, words, pool_words = topk_threshold_reference([weight], k, pool, nan)
            for isa in native.isas():
                got = forced(isa, 1, run, [weight], k, pool, None, nan)
                assert got[0] == threshold or (math.isnan(got[0]) and math.isnan(threshold))
                assert_same((0.0, got[1], got[2]), (0.0, words, pool_words))


def test_denormals_of_many_weights_rank_although_the_processor_flushes_them() -> None:
    tensors = [MADE["denormal"](N), (normal(999, 5) * 2.0**-16).half(), MADE["denormal"](999).bfloat16()]
    expected = topk_threshold_reference(tensors, N // 2, 999)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no flush-to-zero mode that torch can set")
    try:
        got = run(tensors, N // 2, 999)
    finally:
        torch.set_flush_denormal(False)
    assert_same(got, expected)
