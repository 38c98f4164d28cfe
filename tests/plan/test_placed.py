"""Strides say what torch's strides say: a permutation, a slice or a view is the same numbers under another index."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optprune_fast.plan.placed import Buffer, Placed, contiguous, in_order, order_of, picture

SHAPE = (4, 3, 6)


def placed() -> Placed:
    return contiguous(Buffer("narrow", 72), SHAPE)


def numbers(view: Placed) -> Tensor:
    return torch.arange(view.buffer.size).as_strided(view.shape, view.strides, view.offset)


def test_permutations_and_slices_are_those_of_torch() -> None:
    x = torch.arange(72).reshape(SHAPE)
    ours = placed().permute((2, 0, 1)).slice(0, 1, 3, 2).slice(1, 2, 2, 1)
    assert torch.equal(numbers(ours), x.permute(2, 0, 1)[1:6:2, 2:4])
    assert order_of(ours) == (1, 2, 0)
    assert placed().is_contiguous()
    assert not ours.is_contiguous()


@pytest.mark.parametrize("shape", [(72,), (12, 6), (4, 18), (2, 2, 3, 3, 2), (4, 1, 3, 6, 1), (1, 72), (8, 9)])
def test_a_view_of_contiguous_memory_always_exists(shape: tuple[int, ...]) -> None:
    view = placed().reshape(shape)
    assert view is not None
    assert torch.equal(numbers(view), torch.arange(72).reshape(shape))


@pytest.mark.parametrize("shape", [(72,), (6, 12), (6, 2, 2, 3), (2, 3, 4, 3), (6, 4, 3), (6, 1, 4, 3), (3, 24)])
def test_a_view_of_permuted_memory_exists_where_torch_has_one(shape: tuple[int, ...]) -> None:
    x, ours = torch.arange(72).reshape(SHAPE).permute(2, 0, 1), placed().permute((2, 0, 1)).reshape(shape)
    try:
        wanted = x.view(shape)
    except RuntimeError:
        assert ours is None
    else:
        assert ours is not None
        assert torch.equal(numbers(ours), wanted)


def test_one_number_is_a_view_of_any_rank() -> None:
    one = contiguous(Buffer("wide", 1), ()).reshape((1, 1))
    assert one is not None
    assert one.shape == (1, 1)


def test_broadcasting_repeats_numbers() -> None:
    row = contiguous(Buffer("constant", 3), (3, 1)).expand(SHAPE)
    assert torch.equal(numbers(row), torch.arange(3).reshape(3, 1).expand(SHAPE))


def test_memory_in_an_order_of_its_own() -> None:
    ours = in_order(Buffer("narrow", 72), SHAPE, (2, 0, 1))
    assert order_of(ours) == (2, 0, 1)
    assert ours.permute((2, 0, 1)).is_contiguous()


def test_a_picture_lies_inside_its_border() -> None:
    buffer = Buffer("narrow", 2 * 5 * 8, (2, 3, 4, 1, 2))
    assert torch.equal(numbers(picture(buffer)), torch.arange(80).reshape(2, 5, 8)[:, 1:4, 2:6])
