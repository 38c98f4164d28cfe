"""Inputs of masked_linear whose surroundings are poisoned, and the rule that floating results are judged by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from optprune_fast.ops.masked_linear import torch_impl
from optprune_fast.ops.masked_linear.reference import masked_linear_reference
from optprune_fast.ops.words import pack, word_count

Sample = tuple[Tensor, Tensor, Tensor]


def poisoned(rows: Tensor, poison: float) -> Tensor:
    """`rows` as a view into memory that holds `poison` beside and below each row."""
    *front, last = rows.shape
    around = rows.new_full((*front[:-1], front[-1] + 2, last + 3), poison)
    view = around[..., :front[-1], :last]
    view.copy_(rows)
    return view


def make_sample(P: int, B: int, O: int, I: int, *, dtype: torch.dtype = torch.float32, own: bool = False,  # noqa: E741
                density: float = 0.4) -> Sample:
    """x [B, I] or [P, B, I], weight [O, I], words [P, O, ⌈I/64⌉] as a slice of longer candidates."""
    generator = torch.Generator().manual_seed(1000 * P + 100 * B + 10 * O + I)
    x = torch.randn((P, B, I) if own else (B, I), generator=generator).to(dtype)
    weight = torch.randn(O, I, generator=generator).to(dtype)
    mask = torch.rand(P, O, I, generator=generator) < density
    words = torch.full((P, O * word_count(I) + 5), -1)
    words[:, :O * word_count(I)] = pack(mask).flatten(1)
    words = words[:, :O * word_count(I)].unflatten(1, (O, word_count(I)))
    return poisoned(x, float("nan")), poisoned(weight, float("nan")), words


def judge(out: Tensor, x: Tensor, weight: Tensor, words: Tensor) -> None:
    """e(ours) ≤ 2 · e(torch, same type) + floor, where e is the largest error against float64."""
    expected = masked_linear_reference(x, weight, words)
    assert out.shape == expected.shape
    assert out.dtype == x.dtype
    if not out.numel():
        return
    torch_error = (torch_impl.run(x, weight, words) - expected).abs().max()
    # Rounding of the result, and of a float32 sum of I terms, which grows with the root of its length.
    relative = torch.finfo(x.dtype).eps + torch.finfo(torch.float32).eps * x.shape[-1] ** 0.5
    error, limit = (out - expected).abs().max(), 2 * torch_error + relative * expected.abs().max()
    assert error <= limit  # a NaN fails too


def sparse_storage(folder: Path, numbers: int, dtype: torch.dtype) -> Tensor:
    """That many zeros, in a file with holes: memory is taken for those alone that are written."""
    return torch.from_file(str(folder / "holes"), shared=True, size=numbers, dtype=dtype)


@pytest.fixture
def sample() -> Callable[..., Sample]:
    return make_sample


@pytest.fixture(name="judge")
def judge_fixture() -> Callable[..., None]:
    return judge


@pytest.fixture
def far_apart(tmp_path: Path) -> Callable[[Tensor, int], Tensor]:
    """A function that returns a copy of a matrix whose rows lie `step` numbers apart."""

    def spread(rows: Tensor, step: int) -> Tensor:
        storage = sparse_storage(tmp_path, step * (rows.shape[0] - 1) + rows.shape[1], rows.dtype)
        view = storage.as_strided(rows.shape, (step, 1))
        view.copy_(rows)
        return view

    return spread
