"""topk_threshold: exactly k, ties by (tensor, position), bits equal to one stable sort in float64."""

from __future__ import annotations

import math
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from optprune_fast.ops.topk_threshold import TopK, operation, topk_threshold
from optprune_fast.ops.topk_threshold.reference import topk_threshold_reference
from optprune_fast.ops.words import popcount, unpack

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
BACKENDS = [backend for backend in operation.backends if operation.missing(backend) is None]
# On tensors in the memory of the CPU; the C++ kernels leave float64 to others.
TAKES = {backend: [dtype for dtype in DTYPES if operation.reason(backend, [torch.ones(1, dtype=dtype)]) is None]
         for backend in BACKENDS}
BACKENDS = [backend for backend in BACKENDS if TAKES[backend]]
PAIRS = [pytest.param(backend, dtype, id=f"{backend}-{dtype}") for backend in BACKENDS for dtype in TAKES[backend]]
EDGES = [0, 1, 63, 64, 65, 127, 511, 513]


def assert_as_sorted(tensors: list[Tensor], k: int, pool: int, backend: str, nan: str = "raise",
                     hint: float | None = None) -> TopK:
    """Every output must be the reference's, bit for bit."""
    threshold, words, pool_words = topk_threshold_reference(tensors, k, pool, nan)
    got = topk_threshold(tensors, k, pool, backend=backend, nan=nan, hint=hint)
    assert got.threshold == threshold or (math.isnan(got.threshold) and math.isnan(threshold))
    assert got.count == k
    torch.testing.assert_close(got.words, words, rtol=0, atol=0)
    if pool:
        torch.testing.assert_close(got.pool_words, pool_words, rtol=0, atol=0)
    else:
        assert got.pool_words is None
    return got


def some_ranks(n: int) -> list[tuple[int, int]]:
    """(k, pool) at the edges and inside."""
    ranks = [(0, 0), (0, n), (1, 0), (n // 10, n // 5), (n // 2, n - n // 2), (n - 1, 1), (n, 0)]
    return [(k, pool) for k, pool in dict.fromkeys(ranks) if min(k, pool) >= 0 and k + pool <= n]


def adversarial(name: str, n: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    normal = torch.randn(n, generator=generator)
    small = float(torch.finfo(dtype).smallest_normal)
    made = {
        "normal": lambda: normal,
        "constant": lambda: torch.full((n,), -0.25),
        "two values": lambda: torch.where(normal > 0, 0.5, -0.75),
        "one outlier": lambda: torch.full((n,), 1e-3).index_fill(0, torch.arange(n)[-1:], 1000.0),
        "sorted": lambda: normal.abs().sort().values,
        "sorted down": lambda: normal.abs().sort(descending=True).values,
        "denormal": lambda: normal.double().clamp(-0.99, 0.99) * small,
        "half pruned": lambda: normal * (normal > 0),
        "signed zeros": lambda: torch.where(normal > 0, 0.0, -0.0),
        "infinite": lambda: torch.where(normal.abs() > 0.5, math.inf * normal.sign(), normal),
        "huge and tiny": lambda: torch.where(normal > 0, normal.double() * torch.finfo(dtype).max / 8, normal * small),
    }
    return made[name]().to(dtype)


DISTRIBUTIONS = ["normal", "constant", "two values", "one outlier", "sorted", "sorted down", "denormal", "half pruned",
                 "signed zeros", "infinite", "huge and tiny"]


@pytest.mark.parametrize(("backend", "dtype"), PAIRS)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_bits_equal_the_sort_whatever_the_distribution(name: str, dtype: torch.dtype, backend: str) -> None:
    weight = adversarial(name, 7 * 65, dtype).view(7, 65)
    for k, pool in some_ranks(weight.numel()):
        assert_as_sorted([weight], k, pool, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("columns", EDGES)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_bits_equal_the_sort_at_every_edge(rows: int, columns: int, backend: str) -> None:
    weight = adversarial("normal", rows * columns, torch.float32).view(rows, columns)
    for k, pool in some_ranks(weight.numel()):
        assert_as_sorted([weight], k, pool, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_list_ranks_all_its_tensors_together(backend: str) -> None:
    shapes = [(3, 65), (0, 4), (5,), (4, 0), (2, 3, 5, 7), (), (1, 64)]
    tensors = [adversarial("two values", math.prod(shape), torch.float32).reshape(shape) for shape in shapes]
    for k, pool in some_ranks(sum(t.numel() for t in tensors)):
        got = assert_as_sorted(tensors, k, pool, backend)
        assert [tuple(w.shape) for w in got.words] == [(3, 2), (0, 1), (1, 1), (4, 0), (2, 2), (1, 1), (1, 1)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_mixed_dtypes_are_compared_exactly(name: str, backend: str) -> None:
    for dtypes in (TAKES[backend], DTYPES[:3], DTYPES[1:3]):
        tensors = [adversarial(name, 33 + 3 * i, dtype).view(3, -1) for i, dtype in enumerate(dtypes)]
        for k, pool in some_ranks(sum(t.numel() for t in tensors)):
            assert_as_sorted(tensors, k, pool, backend)


@pytest.mark.parametrize(("backend", "dtype"), [p for p in PAIRS if p.values[1] in (torch.float32, torch.float64)])
@pytest.mark.parametrize("value", [0.1, 2.0**-24, 1.0, 65504.0])
def test_neighbours_of_one_value_in_two_dtypes_do_not_tie(value: float, dtype: torch.dtype, backend: str) -> None:
    half = torch.tensor([value], dtype=torch.float16)
    above, below = (torch.nextafter(half.to(dtype), torch.tensor([end], dtype=dtype)) for end in (math.inf, 0.0))
    for neighbours, kept in (([half, above], 1), ([half, below], 0), ([below, half], 1), ([above, half], 0)):
        got = topk_threshold(neighbours, 1, 1, backend=backend)
        assert got.threshold == neighbours[kept].item()
        assert [w.item() for w in got.words] == [kept == 0, kept == 1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_keep_the_lowest_tensor_and_position(backend: str) -> None:
    ones = [torch.ones(2, 3), -torch.ones(2, 3)]
    got = topk_threshold(ones, 8, 3, backend=backend)
    assert got.pool_words is not None
    assert [w.flatten().tolist() for w in got.words] == [[0b111, 0b111], [0b011, 0b000]]
    assert [w.flatten().tolist() for w in got.pool_words] == [[0b000, 0b000], [0b100, 0b011]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_minus_zero_ties_with_zero(backend: str) -> None:
    got = topk_threshold(torch.tensor([-0.0, 0.0, -0.0]), 2, backend=backend)
    assert got.words[0].item() == 0b011
    assert math.copysign(1.0, got.threshold) == 1.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_kept_has_an_infinite_threshold(backend: str) -> None:
    for tensors in ([torch.ones(2, 3)], [torch.ones(0, 3)], [torch.ones(3, 0), torch.ones(0)]):
        got = topk_threshold(tensors, 0, backend=backend)
        assert got.threshold == math.inf
        assert all(not w.any() for w in got.words)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("view", [lambda t: t[2:5, 3:68], lambda t: t.t()[3:68, 2:5], lambda t: t[2:5, ::2],
                                  lambda t: t[2:5, 3:68].expand(2, 3, 65), lambda t: t[2:5, 3:67].view(3, 4, 4, 4)
                                  .contiguous(memory_format=torch.channels_last)])
def test_views_rank_by_their_logical_position(view: object, backend: str) -> None:
    surroundings = torch.full((9, 131), math.nan)  # reading past an end would raise
    surroundings[2:5] = adversarial("two values", 3 * 131, torch.float32).view(3, 131)
    weight = view(surroundings)  # type: ignore[operator]
    assert_as_sorted([weight], weight.numel() // 3, weight.numel() // 3, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_beyond_32_bits_apart_are_found(backend: str, tmp_path: Path) -> None:
    """Rows more than 2^31 weights apart, in a file with holes."""
    weight, step = adversarial("two values", 3 * 65, torch.float32).view(3, 65), 2**31 + 11
    holes = torch.from_file(str(tmp_path / "holes"), shared=True, size=2 * step + 65)
    assert_as_sorted([holes.as_strided((3, 65), (step, 1)).copy_(weight)], 60, 60, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tail_bits_are_zero_in_memory_that_was_not(backend: str) -> None:
    tensors = [torch.randn(3, 65), torch.randn(2, 64), torch.randn(1, 1)]
    poisoned = [torch.full((3, 2), -1), torch.full((2, 1), -1), torch.full((1, 1), -1)]
    pool_poisoned = [torch.full_like(w, -1) for w in poisoned]
    got = topk_threshold(tensors, 100, 50, (poisoned, pool_poisoned), backend=backend)
    fresh = topk_threshold(tensors, 100, 50, backend=backend)
    sides = [(got.words, fresh.words, poisoned), (got.pool_words or [], fresh.pool_words or [], pool_poisoned)]
    for written, expected, given_out in sides:
        torch.testing.assert_close(written, expected, rtol=0, atol=0)
        assert all(a is b for a, b in zip(written, given_out, strict=True))
        for words, tensor in zip(written, tensors, strict=True):
            assert int(popcount(words).sum()) == int(unpack(words, tensor.shape[1]).sum())


@pytest.mark.parametrize(("backend", "dtype"), PAIRS)
def test_denormals_rank_although_the_processor_flushes_them(dtype: torch.dtype, backend: str) -> None:
    more = TAKES[backend][-1]  # a type that is compared by wider keys, if there is one
    cases = [[adversarial("denormal", 65, dtype)], [adversarial("denormal", 65, dtype), torch.zeros(3, dtype=more)]]
    expected = [topk_threshold_reference(tensors, 40) for tensors in cases]
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no flush-to-zero mode that torch can set")
    try:
        got = [topk_threshold(tensors, 40, backend=backend) for tensors in cases]
    finally:
        torch.set_flush_denormal(False)
    for ours, (threshold, words, _) in zip(got, expected, strict=True):
        assert ours.threshold == threshold
        assert ours.threshold > 0
        torch.testing.assert_close(ours.words, words, rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_parameters_rank_as_tensors_and_stay_as_they_are(backend: str) -> None:
    linear = torch.nn.Linear(65, 3)
    before = linear.weight.detach().clone()
    got = topk_threshold((p for p in linear.parameters()), 50, backend=backend)
    assert torch.equal(linear.weight, before)
    assert not any(w.requires_grad for w in got.words)
    assert sum(int(popcount(w).sum()) for w in got.words) == 50


values = st.one_of(st.floats(width=32, allow_nan=False), st.sampled_from([0.0, -0.0, 0.5, -0.5, 1e-45, math.inf]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(values, max_size=70), min_size=1, max_size=4), st.data())
def test_any_list_any_rank(rows: list[list[float]], data: st.DataObject) -> None:
    tensors = [torch.tensor(row, dtype=data.draw(st.sampled_from([torch.float32, torch.float64]))) for row in rows]
    wide = any(t.dtype == torch.float64 for t in tensors)
    n = sum(map(len, rows))
    k = data.draw(st.integers(0, n))
    pool = data.draw(st.integers(0, n - k))
    for backend in BACKENDS:
        if wide and torch.float64 not in TAKES[backend]:
            continue
        got = assert_as_sorted(tensors, k, pool, backend)
        kept = torch.cat([unpack(w, t.numel())[0] for w, t in zip(got.words, tensors, strict=True)])
        assert int(kept.sum()) == k
        if pool:
            pooled = torch.cat([unpack(w, t.numel())[0] for w, t in zip(got.pool_words or [], tensors, strict=True)])
            assert int(pooled.sum()) == pool
            assert not (kept & pooled).any()


def test_a_larger_k_only_adds() -> None:
    weight = adversarial("half pruned", 513, torch.float32)
    before = torch.zeros_like(topk_threshold(weight, 0).words[0])
    for k in range(0, 514, 19):
        words = topk_threshold(weight, k).words[0]
        assert not (before & ~words).any()
        before = words


@pytest.mark.parametrize(("backend", "dtype"), PAIRS)
def test_nan_is_refused_wherever_it_stands_and_the_tensor_is_named(dtype: torch.dtype, backend: str) -> None:
    for place in (0, 63, 64, 129):
        tensors = [torch.ones(3, dtype=dtype), torch.ones(2, 65, dtype=dtype), torch.ones(3, dtype=dtype)]
        tensors[1].view(-1)[place] = -math.nan
        for k in (0, 1, 136):
            with pytest.raises(ValueError, match=r"tensors\[1\] holds NaN, which has no rank\nnan=\"keep\" ranks it"):
                topk_threshold(tensors, k, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("nan", ["keep", "drop"])
def test_nan_ranks_first_or_last_by_position(nan: str, backend: str) -> None:
    quiet = torch.tensor([0x7FC00000, 0x7F800001, -1, 0x7FFFFFFF], dtype=torch.int32).view(torch.float32)
    for dtypes in ((torch.float32, torch.float16, torch.bfloat16), (torch.float16,), (torch.bfloat16,), TAKES[backend]):
        tensors = [adversarial("infinite", 65, dtype) for dtype in dtypes]
        for t in tensors:
            t[[0, 7, 63, 64]] = quiet.to(t.dtype)
        n = 65 * len(tensors)
        for k, pool in [*some_ranks(n), (2, 1), (4 * len(tensors), 3), (n - 3, 2)]:
            assert_as_sorted(tensors, k, pool, backend, nan)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("hint", [0.0, 1e-45, 0.5, 0.9, 1.0, 1e30, math.inf, math.nan, -0.5])
def test_no_hint_changes_a_bit(hint: float, backend: str) -> None:
    tensors = [adversarial(name, 513, torch.float32) for name in ("normal", "half pruned")]
    for k, pool in ((0, 0), (100, 0), (513, 100), (600, 426)):
        assert_as_sorted(tensors, k, pool, backend, hint=hint)
