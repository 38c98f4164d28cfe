"""Fragments of masked_linear's tensor cores hold what NVIDIA's manual says, and shared memory has no conflicts."""

from __future__ import annotations

import ctypes
import itertools

import pytest

LANES = range(32)
CHUNKS = range(4)  # of a row of 32 columns


@pytest.fixture(scope="module")
def fragments(emulated_library):
    library = emulated_library("fragments")
    library.kept.restype, library.kept.argtypes = ctypes.c_uint32, [ctypes.c_uint32]
    return library


def loaded(row_of, chunk_of, lane: int, matrix: int) -> tuple[int, int]:
    """Row, and first of two columns, that ldmatrix puts into a lane's register `matrix`."""
    names = 8 * matrix + lane // 4  # the lane that names this row
    return row_of(names), 8 * chunk_of(names) + 2 * (lane % 4)


def test_every_chunk_of_a_tile_has_a_place_of_its_own(fragments):
    places = {fragments.place(row, c) for row, c in itertools.product(range(128), CHUNKS)}
    assert places == set(range(128 * 4))


@pytest.mark.parametrize("row", range(0, 128, 8))
def test_what_is_read_or_written_at_once_lies_in_different_banks(fragments, row):
    """Banks of 128 bytes hold eight chunks. One chunk of eight rows is read at once, two whole rows are written."""
    for c in CHUNKS:
        assert {fragments.place(row + i, c) % 8 for i in range(8)} == set(range(8))
    for pair in range(row, row + 8, 2):
        assert {fragments.place(r, c) % 8 for r, c in itertools.product((pair, pair + 1), CHUNKS)} == set(range(8))


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_gets_the_samples_that_the_product_wants(fragments, lane):
    group, column = lane // 4, 2 * (lane % 4)
    found = [loaded(fragments.x_row, fragments.x_chunk, lane, matrix) for matrix in range(4)]
    assert found == [(group, column), (group + 8, column), (group, column + 8), (group + 8, column + 8)]


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_gets_the_weights_that_two_products_want(fragments, lane):
    group, column = lane // 4, 2 * (lane % 4)
    found = [loaded(fragments.weight_row, fragments.weight_chunk, lane, matrix) for matrix in range(4)]
    assert found == [(group, column), (group, column + 8), (group + 8, column), (group + 8, column + 8)]


@pytest.mark.parametrize("bit", range(32))
def test_each_bit_of_half_a_word_keeps_one_weight_of_one_lane(fragments, bit):
    """A lane's register `i` has two weights, columns k + 8 i + 2 (lane % 4) and the next, for k 0 and 16."""
    for lane, k, i in itertools.product(range(4), (0, 16), (0, 1)):
        first = k + 8 * i + 2 * lane
        expected = 0xFFFF if bit == first else 0xFFFF0000 if bit == first + 1 else 0
        assert fragments.kept((1 << bit) >> fragments.first_bit(lane) >> (k + 8 * i)) == expected


def test_bits_of_others_do_not_matter(fragments):
    for others, own in itertools.product((0, 0xFFFFFFFC, 0xA5A5A5A4), range(4)):
        assert fragments.kept(others | own) == (own & 1) * 0xFFFF | (own >> 1) * 0xFFFF0000
