"""The tolerance rule lets rounding pass and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optprune_fast.testing.tolerance import assert_as_accurate, floor

TERMS = 513


def sums(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, float]:
    """(terms, torch's sums, float64 sums, magnitude): products of standard normals, 20 rows of 513."""
    generator = torch.Generator().manual_seed(0)
    products = torch.randn(20, TERMS, generator=generator, dtype=torch.float64).to(dtype)
    wide = products.double()
    return products, products.sum(1), wide.sum(1), float(wide.abs().sum(1).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_one_plain_accumulator_passes(dtype: torch.dtype) -> None:
    products, plain, wide, magnitude = sums(dtype)
    ours = torch.zeros(20, dtype=dtype)
    for column in products.T:
        ours += column
    assert not torch.equal(ours, plain)  # torch sums in blocks
    assert_as_accurate(ours, plain, wide, terms=TERMS, magnitude=magnitude)


def test_one_forgotten_term_fails() -> None:
    products, plain, wide, magnitude = sums()
    for column in (0, 64, TERMS - 1):
        ours = plain.clone()
        ours[7] -= products[7, column]
        with pytest.raises(AssertionError, match=r"largest error .*513 terms"):
            assert_as_accurate(ours, plain, wide, terms=TERMS, magnitude=magnitude)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 0.0])
def test_one_value_that_is_no_sum_fails(wrong: float) -> None:
    _, plain, wide, magnitude = sums()
    ours = plain.clone()
    ours[-1] = wrong
    with pytest.raises(AssertionError, match="largest error"):
        assert_as_accurate(ours, plain, wide, terms=TERMS, magnitude=magnitude)


def test_the_sums_of_a_smaller_dtype_fail() -> None:
    products, plain, wide, magnitude = sums()
    ours = products.half().sum(1).float()
    with pytest.raises(AssertionError, match="largest error"):
        assert_as_accurate(ours, plain, wide, terms=TERMS, magnitude=magnitude)


def test_another_shape_fails_even_where_it_broadcasts() -> None:
    _, plain, wide, magnitude = sums()
    for ours in (plain[:1], plain[None], plain[:, None]):
        with pytest.raises(AssertionError, match="shape"):
            assert_as_accurate(ours, plain, wide, terms=TERMS, magnitude=magnitude)


def test_another_dtype_fails_even_where_it_is_exact() -> None:
    _, plain, wide, magnitude = sums()
    with pytest.raises(AssertionError, match=r"dtype torch.float64, torch has torch.float32"):
        assert_as_accurate(wide, plain, wide, terms=TERMS, magnitude=magnitude)


def test_a_reference_in_the_dtype_that_it_judges_is_refused() -> None:
    _, plain, _, magnitude = sums()
    with pytest.raises(AssertionError, match="reference must be float64"):
        assert_as_accurate(plain, plain, plain, terms=TERMS, magnitude=magnitude)


def test_a_reference_that_is_not_finite_is_refused() -> None:
    _, plain, wide, magnitude = sums()
    with pytest.raises(AssertionError, match="finite"):
        assert_as_accurate(plain, plain, wide * float("nan"), terms=TERMS, magnitude=magnitude)


def test_nothing_is_as_accurate_as_nothing_of_its_shape() -> None:
    empty = torch.empty(3, 0)
    assert_as_accurate(empty, empty, empty.double(), terms=0, magnitude=0.0)
    with pytest.raises(AssertionError, match="shape"):
        assert_as_accurate(torch.empty(0, 3), empty, empty.double(), terms=0, magnitude=0.0)


def cut(x: torch.Tensor, bits: int) -> torch.Tensor:
    """float32 with its last bits cut off, as tensor cores may take it."""
    return ((x.view(torch.int32) >> bits) << bits).view(torch.float32)


def in_two_parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return cut(x, 13), cut(x - cut(x, 13), 13)


def rounded_sums(x: torch.Tensor, y: torch.Tensor, precision: str) -> torch.Tensor:
    """float32 sums of products of factors as a precision has them."""
    if precision == "tf32x3":
        (a, b), (c, d) = in_two_parts(x), in_two_parts(y)
        return (a.double() @ c.double() + a.double() @ d.double() + b.double() @ c.double()).float()
    kept = {"tf32": lambda t: cut(t, 13), "fp16": torch.Tensor.half, "bf16": torch.Tensor.bfloat16}[precision]
    return (kept(x).double() @ kept(y).double()).float()


@pytest.mark.parametrize("terms", [1, 7, 784])
def test_each_precision_keeps_its_own_rule_and_rounding_to_few_bits_no_finer_one(terms: int) -> None:
    generator = torch.Generator().manual_seed(terms)
    x, y = torch.randn(65, terms, generator=generator), torch.randn(terms, 33, generator=generator)
    exact, magnitude = x.double() @ y.double(), float((x.abs().double() @ y.abs().double()).max())
    for precision in ("tf32x3", "fp16", "tf32", "bf16"):
        found = rounded_sums(x, y, precision)
        assert_as_accurate(found, x @ y, exact, terms=terms, magnitude=magnitude, precision=precision)
        if precision != "tf32x3":
            with pytest.raises(AssertionError, match="largest error"):
                assert_as_accurate(found, x @ y, exact, terms=terms, magnitude=magnitude, precision="tf32x3")


def test_the_floor_is_far_below_one_product() -> None:
    _, _, _, magnitude = sums()
    assert floor(torch.float32, TERMS, magnitude) < 1e-3
    assert floor(torch.float64, TERMS, magnitude) < 1e-11
