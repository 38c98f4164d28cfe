"""Poison lies where it should, and what touches it is found out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optprune_fast.testing.poison import GUARD, Poisoned, PoisonedAllocations, poison_all

MATRIX = torch.arange(12.0).view(3, 4)
VIEWS = {
    "plain": MATRIX,
    "empty": torch.empty(0, 3),
    "scalar": torch.tensor(3.0),
    "transposed": MATRIX.T,
    "strided": MATRIX[:, ::2],
    "shared": MATRIX[:1].expand(3, 4),
    "words": torch.arange(12).view(3, 4)[:, 1:3],
    "marks": torch.tensor([True, False]),
}


def buffer(tensor: Tensor) -> Tensor:
    """All memory that a poisoned tensor lies in."""
    return torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())


@pytest.mark.parametrize("tensor", VIEWS.values(), ids=VIEWS.keys())
def test_the_tensor_is_equal_and_poison_is_all_around(tensor: Tensor) -> None:
    poisoned = Poisoned(tensor)
    assert torch.equal(poisoned.tensor, tensor)
    memory = buffer(poisoned.tensor)
    for guard in (memory[:GUARD], memory[-GUARD:]):
        assert guard.numel() == GUARD
        assert guard.view(torch.uint8).eq(0xFF).all()
    poisoned.assert_intact()


def test_strides_stay_and_the_gaps_are_poison() -> None:
    tensor = MATRIX[:, ::2]
    poisoned = Poisoned(tensor).tensor
    assert poisoned.stride() == tensor.stride()
    assert buffer(poisoned).isfinite().sum() == tensor.numel()


@pytest.mark.parametrize("place", [0, GUARD - 1, GUARD, GUARD + 1, -1])
def test_a_write_anywhere_is_found(place: int) -> None:
    poisoned = Poisoned(MATRIX[:, ::2])
    buffer(poisoned.tensor)[place] = 42.0
    with pytest.raises(AssertionError, match="input or the memory around it"):
        poisoned.assert_intact()


def test_what_was_allocated_may_be_written_and_nothing_beside_it() -> None:
    with PoisonedAllocations() as allocations:
        made = [torch.empty(3), torch.empty_like(MATRIX), MATRIX.new_empty(2, 2), torch.empty_strided((2, 2), (3, 1)),
                torch.empty(2, dtype=torch.int64)]
    assert allocations.count == len(made)
    for tensor in made:
        assert tensor.isnan().all() if tensor.is_floating_point() else tensor.eq(-1).all()
        tensor.zero_()
    allocations.assert_intact()
    for tensor in made:
        memory = buffer(tensor)
        place = tensor.storage_offset() + tensor.numel() + 1
        before = memory[place].clone()
        memory[place] = 0
        with pytest.raises(AssertionError, match="outside of an output"):
            allocations.assert_intact()
        memory[place] = before
    allocations.assert_intact()


def test_arguments_keep_their_structure() -> None:
    arguments, guards = poison_all((MATRIX, [MATRIX.T, 3], "x", (1, 2)))
    assert len(guards) == 2
    assert torch.equal(arguments[1][0], MATRIX.T)
    assert (arguments[1][1], *arguments[2:]) == (3, "x", (1, 2))
