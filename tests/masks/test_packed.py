"""Populations of packed masks: what goes in comes out, and set algebra holds bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks

SHAPES = {"a": (3, 65), "b": (2, 3, 3, 3), "c": (7,), "d": (4, 128)}
LAYOUT = MaskLayout.from_shapes(SHAPES)
WIDTHS = st.sampled_from((0, 1, 2, 63, 64, 65, 127, 128, 511, 513))
layouts = st.lists(st.tuples(st.integers(1, 3), WIDTHS), min_size=1, max_size=3).map(
    lambda shapes: MaskLayout.from_shapes({f"w{i}": shape for i, shape in enumerate(shapes)}))


def population(layout: MaskLayout, P: int, seed: int, density: float = 0.4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {layer.name: torch.rand(P, *layer.shape, generator=generator) < density for layer in layout}


def masks(P: int = 4, seed: int = 0) -> PackedMasks:
    return PackedMasks.from_dense(LAYOUT, population(LAYOUT, P, seed))


@given(layouts, st.integers(0, 3), st.integers(0, 99), st.sampled_from((0.0, 0.3, 1.0)))
@settings(max_examples=60, deadline=None)
def test_what_is_packed_is_unpacked(layout: MaskLayout, P: int, seed: int, density: float):
    dense = population(layout, P, seed, density)
    packed = PackedMasks.from_dense(layout, dense)
    again = packed.to_dense()
    assert all(torch.equal(again[name], bits) for name, bits in dense.items())
    assert PackedMasks.from_dense(layout, again) == packed
    assert PackedMasks(layout, packed.words) == packed  # the tail is zero
    assert torch.equal(packed.count(), sum(bits.flatten(1).sum(1) for bits in dense.values()))


@given(layouts, st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_kept_and_pruned_weights_are_all_weights(layout: MaskLayout, seed: int):
    packed = PackedMasks.from_dense(layout, population(layout, 3, seed))
    assert (packed.count() + (~packed).count()).tolist() == [layout.n] * 3
    assert ~~packed == packed
    assert (packed | ~packed)[0] == PackedMasks.full(layout)
    assert int((packed & ~packed).count().sum()) == 0


def test_and_or_xor_are_those_of_booleans():
    a, b = masks(seed=1), masks(seed=2)
    assert torch.equal((a & b).flat(), a.flat() & b.flat())
    assert torch.equal((a | b).flat(), a.flat() | b.flat())
    assert torch.equal((a ^ b).flat(), a.flat() ^ b.flat())
    assert torch.equal((~a).flat(), ~a.flat())


def test_overlap_counts_what_both_keep():
    a, b = masks(seed=1), masks(seed=2)
    assert torch.equal(a.overlap(b), (a.flat() & b.flat()).sum(1))
    assert torch.equal(a.overlap(b[0]), (a.flat() & b.flat()[0]).sum(1))


def test_indices_are_the_flat_numbers_of_kept_weights():
    one = masks()[2]
    assert torch.equal(one.indices(), one.flat()[0].nonzero().flatten())
    assert PackedMasks.from_indices(LAYOUT, one.indices()) == one
    assert int(PackedMasks.from_indices(LAYOUT, torch.tensor([], dtype=torch.int64)).count()) == 0


def test_indices_take_one_mask_at_a_time():
    with pytest.raises(ValueError, match="one mask at a time"):
        masks().indices()


@pytest.mark.parametrize("number", [2, np.int64(2), torch.tensor(2), torch.tensor([2]), [2], -2])
def test_one_mask_is_masks_whatever_kind_of_number_picks_it(number):
    assert masks()[number].words.shape == (1, LAYOUT.W)
    assert torch.equal(masks()[number].words[0], masks().words[2])


def test_masks_are_picked_by_number_slice_tensor_and_booleans():
    packed = masks()
    assert torch.equal(packed[-1].words, packed.words[3:])
    assert torch.equal(packed[1:3].words, packed.words[1:3])
    assert torch.equal(packed[torch.tensor([2, 0])].words, packed.words[[2, 0]])
    assert torch.equal(packed[torch.tensor([True, False, False, True])].words, packed.words[[0, 3]])
    assert PackedMasks.cat(list(packed)) == packed
    with pytest.raises(IndexError, match="mask 4 of 4"):
        packed[4]


def test_equality_is_by_value():
    assert masks() == masks()
    assert masks() != masks(seed=1)
    assert masks() != "masks"
    with pytest.raises(TypeError, match="unhashable"):
        hash(masks())


def test_operations_leave_their_operands_alone():
    packed, before = masks(), masks().words.clone()
    _ = packed & ~packed, packed | packed, packed ^ packed, PackedMasks.full(LAYOUT)
    assert torch.equal(packed.words, before)


def test_a_bit_without_a_weight_is_refused():
    words = masks().words.clone()
    words[1, 1] |= 1 << 5  # row 0 of layer a has 65 bits: bit 1 of its second word has no weight
    with pytest.raises(ValueError, match="bits without a weight must be zero"):
        PackedMasks(LAYOUT, words)


def test_words_of_another_type_or_shape_are_refused():
    with pytest.raises(TypeError, match="words must be int64"):
        PackedMasks(LAYOUT, masks().words.int())
    with pytest.raises(ValueError, match=rf"words must be \[P, {LAYOUT.W}\]"):
        PackedMasks(LAYOUT, masks().words[:, 1:])
    with pytest.raises(ValueError, match=rf"words must be \[P, {LAYOUT.W}\]"):
        PackedMasks(LAYOUT, masks().words[0])


def test_masks_of_different_layouts_do_not_mix():
    other = PackedMasks.full(MaskLayout.from_shapes({**SHAPES, "a": (3, 66)}))
    for operation in (lambda: masks(1) & other, lambda: masks(1) | other, lambda: masks(1) ^ other,
                      lambda: masks(1).overlap(other), lambda: PackedMasks.cat([masks(1), other])):
        with pytest.raises(ValueError, match="masks of different layouts"):
            operation()


def test_masks_of_different_devices_do_not_mix():
    with pytest.raises(ValueError, match=r"masks on different devices[\s\S]*use \.to\(device\)"):
        masks() & masks().to("meta")


def test_from_dense_wants_every_layer_in_its_shape():
    dense = population(LAYOUT, 2, 0)
    with pytest.raises(ValueError, match=r"every layer needs a mask\n  missing  'c'"):
        PackedMasks.from_dense(LAYOUT, {name: bits for name, bits in dense.items() if name != "c"})
    with pytest.raises(ValueError, match=r"unknown layers[\s\S]*'e'"):
        PackedMasks.from_dense(LAYOUT, {**dense, "e": dense["a"]})
    with pytest.raises(ValueError, match=r"masks must be \[P, \*weight.shape\]"):
        PackedMasks.from_dense(LAYOUT, {**dense, "b": dense["b"].flatten(2)})
    with pytest.raises(ValueError, match="one P for all"):
        PackedMasks.from_dense(LAYOUT, {**dense, "b": dense["b"][:1]})
    with pytest.raises(TypeError, match="bool"):
        PackedMasks.from_dense(LAYOUT, {name: bits.float() for name, bits in dense.items()})


def test_cat_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one part"):
        PackedMasks.cat([])
