"""Every format gives back every bit, for every type and shape."""

from __future__ import annotations

import pytest
import torch

from optprune_fast.formats import bits
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import patterns
from optprune_fast.formats.block import Block
from optprune_fast.formats.csr import CSR
from optprune_fast.formats.delta_csr import DeltaCSR
from optprune_fast.formats.dense import Dense
from optprune_fast.formats.entropy import Entropy
from optprune_fast.formats.registry import FORMATS
from optprune_fast.formats.tiled_index import TiledIndex
from optprune_fast.formats.two_four import TwoFour
from optprune_fast.ops.words import pack, unpack

ANY_MASK = (Bitmask, TiledIndex, CSR, DeltaCSR, Entropy)


def assert_same(held, weight, mask, made) -> None:
    held.validate()
    assert torch.equal(patterns(held.to_dense()), made.expected(weight, mask))
    assert torch.equal(held.mask_words(), pack(mask))
    assert held.nnz == int(mask.sum())
    assert (held.shape, held.dtype) == (tuple(weight.shape), weight.dtype)
    again = type(held).from_planes(held.shape, held.dtype, held.planes(), held.parameters())
    again.validate()
    assert again.tensors().keys() == held.tensors().keys()
    assert all(torch.equal(again.tensors()[name], plane) for name, plane in held.tensors().items()
               if not plane.is_floating_point())
    assert torch.equal(patterns(again.to_dense()), made.expected(weight, mask))


@pytest.mark.parametrize("kind", ANY_MASK, ids=lambda kind: kind.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_every_bit_comes_back(kind, dtype, made) -> None:
    for shape in made.shapes:
        weight = made.weight(shape, dtype)
        for mask in made.masks(shape).values():
            assert_same(kind.from_dense(weight, made.words(mask)), weight, mask, made)


@pytest.mark.parametrize("kind", [Bitmask, TiledIndex], ids=lambda kind: kind.name)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_bit_of_coded_values_comes_back(kind, dtype, made) -> None:
    for shape in made.shapes:
        weight = made.weight(shape, dtype)
        for mask in made.masks(shape).values():
            held = kind.from_dense(weight, made.words(mask), values="exponent")
            assert held.coded
            assert_same(held, weight, mask, made)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_two_of_four_come_back(dtype, made) -> None:
    for shape in made.shapes:
        weight, mask = made.weight(shape, dtype), made.two_four(shape)
        assert_same(TwoFour.from_dense(weight, made.words(mask)), weight, mask, made)
        none = torch.zeros_like(mask)
        assert_same(TwoFour.from_dense(weight, made.words(none)), weight, none, made)


@pytest.mark.parametrize("block", [(4, 4), (16, 16), (1, 8), (1, 9)])
def test_blocks_come_back(block, made) -> None:
    for shape in (*made.shapes, (33, 70)):
        weight, mask = made.weight(shape), made.blocks(shape, block)
        assert_same(Block.from_dense(weight, made.words(mask)), weight, mask, made)
        assert_same(Block.from_bitmask(Bitmask.of(weight, made.words(mask)), block), weight, mask, made)


def test_a_dense_weight_has_exact_zeros_and_keeps_everything(made) -> None:
    weight, mask = made.weight((3, 65)), made.masks((3, 65))["half"]
    held = Dense.from_dense(weight, made.words(mask))
    assert torch.equal(patterns(held.to_dense()), made.expected(weight, mask))
    assert held.nnz == held.numel == 195
    assert torch.equal(patterns(held.to_bitmask().to_dense()), made.expected(weight, mask))


def test_formats_turn_into_one_another_without_a_dense_copy(made, monkeypatch) -> None:
    weight, mask = made.weight((6, 600)), made.two_four((6, 600))
    bitmask = Bitmask.of(weight, made.words(mask))
    for kind in (TiledIndex, CSR, DeltaCSR, TwoFour, Entropy):
        held = kind.from_bitmask(bitmask)
        back = held.to_bitmask()
        assert torch.equal(back.words, bitmask.words)
        assert torch.equal(patterns(back.values), patterns(bitmask.values))
        assert torch.equal(back.row_offsets, bitmask.row_offsets)
    assert {kind.name for kind in (*ANY_MASK, TwoFour, Block, Dense)} == set(FORMATS)


def test_the_planes_are_where_the_page_says(made) -> None:
    """A second, slow way from the planes to the weight."""
    shape = (5, 3, 11, 19)  # 627 columns: three tiles
    weight, mask = made.weight(shape).view(5, -1), made.masks(shape)["few"]
    expected = made.expected(weight, mask)
    tiled, delta = (kind.from_dense(weight, made.words(mask)) for kind in (TiledIndex, DeltaCSR))
    out, other = torch.zeros_like(expected), torch.zeros_like(expected)
    for row in range(5):
        for tile in range(3):
            begin, end = tiled.offsets[row * 3 + tile], tiled.offsets[row * 3 + tile + 1]
            for k in range(begin, end):
                out[row, 256 * tile + int(tiled.columns_in_tile[k])] = patterns(tiled.values)[k]
        column = -1
        for k in range(delta.row_offsets[row], delta.row_offsets[row + 1]):
            column += (int(delta.gaps[k]) & 0xFFFF) + 1
            other[row, column] = patterns(delta.values)[k]
    assert torch.equal(out, expected)
    assert torch.equal(other, expected)


def test_bytes_are_those_of_the_formulas(made) -> None:
    weight, mask = made.weight((64, 1024)), made.masks((64, 1024))["few"]
    words, n = made.words(mask), int(mask.sum())
    assert Bitmask.from_dense(weight, words).nbytes == 64 * 1024 // 8 + 4 * n + 4 * 65
    assert TiledIndex.from_dense(weight, words).nbytes == 5 * n + 4 * (64 * 4 + 1)
    assert CSR.from_dense(weight, words).nbytes == 8 * n + 4 * 65
    assert DeltaCSR.from_dense(weight, words).nbytes == 6 * n + 4 * 65


def test_the_weight_is_copied_and_never_changed(made) -> None:
    weight, mask = made.weight((4, 70)), made.masks((4, 70))["half"]
    words, before = made.words(mask), made.weight((4, 70))
    for kind in ANY_MASK:
        held = kind.from_dense(weight, words)
        held.to_dense().fill_(1)
        assert torch.equal(patterns(held.to_dense()), made.expected(before, mask))
    assert torch.equal(patterns(weight), patterns(before))


def test_a_view_with_strides_is_a_weight(made) -> None:
    weight = made.weight((70, 4)).t()
    mask = made.masks((4, 70))["half"]
    held = Bitmask.from_dense(weight, made.words(mask))
    assert torch.equal(patterns(held.to_dense()), made.expected(weight.contiguous(), mask))


def test_wide_rows_keep_their_gaps(made) -> None:
    weight = made.weight((2, 65536))
    mask = torch.zeros(2, 65536, dtype=torch.bool)
    mask[0, [0, 65535]] = True
    mask[1, 65535] = True
    assert_same(DeltaCSR.from_dense(weight, made.words(mask)), weight, mask, made)


def test_packing_agrees_with_the_words_of_masks(made) -> None:
    for shape in made.shapes:
        for mask in made.masks(shape).values():
            assert torch.equal(made.words(mask), pack(mask))
            assert torch.equal(unpack(made.words(mask), mask.shape[1]), mask)


def test_tiles_become_words_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(7, 300)
    mask = pack(torch.rand(7, 300) < 0.2)
    held = TiledIndex.from_dense(weight, mask)
    monkeypatch.setattr(bits, "_STEP", 600)  # two rows
    assert torch.equal(held.to_bitmask().words, mask)
    assert torch.equal(held.to_bitmask().row_offsets, Bitmask.from_dense(weight, mask).row_offsets)
