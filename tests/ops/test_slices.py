"""Slices: there and back, where the kept weights lie, and what the check refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from optprune_fast.ops.slices import Slices, check_slices, dense_weight, from_slices, to_slices
from optprune_fast.ops.walk import walk
from optprune_fast.ops.words import pack

SIZES = [(0, 5), (5, 0), (1, 1), (7, 63), (8, 64), (9, 65), (3, 256), (16, 257), (300, 530)]
KEPT: dict[str, Callable[[Tensor], Tensor]] = {
    "some": lambda u: u < 0.2, "none": lambda u: u < 0, "all": lambda u: u >= 0,
    "ragged": lambda u: u < torch.linspace(0, 1, max(1, len(u)))[: len(u), None]}


def drawn(size: tuple[int, int], kept: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size[0] * 1000 + size[1])
    mask = KEPT[kept](torch.rand(size, generator=generator))
    values = torch.randn(int(mask.sum()), generator=generator)
    if values.numel() > 3:
        values[0], values[1], values[2] = -0.0, 0.0, torch.nan
    return mask, values


def bits(values: Tensor) -> Tensor:
    return values.view(torch.int16 if values.element_size() == 2 else torch.int32)


@pytest.mark.parametrize("coded", [False, True], ids=["columns", "words"])
@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_there_and_back_keeps_every_bit(size: tuple[int, int], kept: str, coded: bool) -> None:
    mask, values = drawn(size, kept)
    for dtype in (torch.float32, torch.bfloat16):
        slices = to_slices(pack(mask), values.to(dtype), size[1], coded=coded)
        check_slices(slices, *size)
        words, back = from_slices(slices, *size)
        assert torch.equal(words, pack(mask))
        assert torch.equal(bits(back), bits(values.to(dtype)))
        assert torch.equal(dense_weight(slices, size).view(size)[mask].isnan(), values.isnan())


@pytest.mark.parametrize("coded", [False, True], ids=["columns", "words"])
@pytest.mark.parametrize(("size", "groups"), [((16, 257), 1), ((300, 300), 1), ((600, 70), 2), ((6, 9), 6)])
def test_the_walk_finds_every_kept_weight_where_it_lies(size: tuple[int, int], groups: int, coded: bool) -> None:
    mask, values = drawn(size, "some")
    dense = torch.zeros(size).masked_scatter_(mask, values)
    slices = to_slices(pack(mask), values, size[1], groups=groups, coded=coded)
    found = list(walk(slices, *size, groups=groups))
    assert sorted(entry for entry, _, _ in found) == list(range(values.numel()))
    assert sorted([r, c] for _, r, c in found) == mask.nonzero().tolist()
    entry, row, column = (torch.tensor(x) for x in zip(*found, strict=True))
    assert torch.equal(bits(slices.values[entry]), bits(dense[row, column]))


def test_rows_of_a_slice_stand_in_turns_and_then_their_rests() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [0, 1, 0, 1]], dtype=torch.bool)  # as in slices.py
    slices = to_slices(pack(mask), torch.arange(9.0), 4)
    assert slices.values.tolist() == [0, 4, 7, 1, 5, 8, 2, 3, 6]
    assert slices.places.tolist() == [0, 0, 1, 1, 1, 3, 2, 3, 2]
    assert slices.counts.tolist() == [4, 3, 2]


def test_a_value_for_each_bit() -> None:
    with pytest.raises(ValueError, match="there must be a value for each bit set"):
        to_slices(torch.tensor([[3]]), torch.ones(3), 2)


def changed(slices: Slices, name: str, place: int, value: int) -> Slices:
    plane = getattr(slices, name).clone()
    plane[place] = value
    return slices._replace(**{name: plane})


@pytest.mark.parametrize(("name", "place", "value", "text"), [
    ("places", -1, 1, "columns must lie within the weight"),
    ("counts", 0, 300, "counts of a chunk must descend"),
    ("counts", -1, -1, "counts of a chunk must descend"),
    ("counts", 0, 130, "starts must agree with the counts"),
    ("rows", 0, 8, "rows must name each row of a band once"),
    ("starts", 1, 1160, "starts must agree with the counts"),
    ("starts", 0, 1, "starts must lead from 0"),
])
def test_planes_that_would_lead_a_kernel_astray_are_refused(name: str, place: int, value: int, text: str) -> None:
    mask = torch.arange(257).expand(9, 257) % 2 == 0
    slices = to_slices(pack(mask), torch.ones(int(mask.sum())), 257)
    check_slices(slices, 9, 257)
    with pytest.raises(ValueError, match=text):
        check_slices(changed(slices, name, place, value), 9, 257)


@pytest.mark.parametrize(("place", "text"), [(0, "starts must agree"), (1, "words must be zero past the last column")])
def test_words_that_would_lead_a_kernel_astray_are_refused(place: int, text: str) -> None:
    mask = torch.ones(1, 65, dtype=torch.bool)
    mask[0, 0] = False
    slices = to_slices(pack(mask), torch.ones(64), 65, coded=True)
    check_slices(slices, 1, 65)
    with pytest.raises(ValueError, match=text):
        check_slices(changed(slices, "places", place, -1), 1, 65)
    with pytest.raises(ValueError, match="places must be a column a value, or the words of all rows"):
        check_slices(slices._replace(places=slices.places[1:]), 1, 65)
