"""Fragments of tensor cores hold what NVIDIA's manual says, and shared memory has no conflicts."""

from __future__ import annotations

import ctypes
import itertools

import pytest

LANES = range(32)
by_chunks = pytest.mark.parametrize("chunks", [4, 8])  # of a row of 32 columns, or 64


@pytest.fixture(scope="module")
def fragments(emulated_library):
    library = emulated_library("fragments")
    library.kept.restype, library.kept.argtypes = ctypes.c_uint32, [ctypes.c_uint32]
    return library


def loaded(row_of, chunk_of, lane: int, matrix: int) -> tuple[int, int]:
    """Row, and first of two columns, that ldmatrix puts into a lane's register `matrix`."""
    names = 8 * matrix + lane // 4  # the lane that names this row
    return row_of(names), 8 * chunk_of(names) + 2 * (lane % 4)


@by_chunks
def test_every_chunk_of_a_tile_has_a_place_of_its_own(fragments, chunks):
    places = {fragments.place(chunks, row, c) for row, c in itertools.product(range(128), range(chunks))}
    assert places == set(range(128 * chunks))


@by_chunks
@pytest.mark.parametrize("row", range(0, 128, 8))
def test_what_is_read_or_written_at_once_lies_in_different_banks(fragments, row, chunks):
    """Banks of 128 bytes hold eight chunks. One chunk of eight rows is read at once, whole rows of 128 bytes written.
    """
    for c in range(chunks):
        assert {fragments.place(chunks, row + i, c) % 8 for i in range(8)} == set(range(8))
    for first in range(row, row + 8, 8 // chunks):
        written = itertools.product(range(first, first + 8 // chunks), range(chunks))
        assert {fragments.place(chunks, r, c) % 8 for r, c in written} == set(range(8))


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_gets_the_rows_of_the_tall_factor_that_the_product_wants(fragments, lane):
    group, column = lane // 4, 2 * (lane % 4)
    found = [loaded(fragments.tall_row, fragments.tall_chunk, lane, matrix) for matrix in range(4)]
    assert found == [(group, column), (group + 8, column), (group, column + 8), (group + 8, column + 8)]


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_gets_the_rows_of_the_low_factor_that_two_products_want(fragments, lane):
    group, column = lane // 4, 2 * (lane % 4)
    found = [loaded(fragments.low_row, fragments.low_chunk, lane, matrix) for matrix in range(4)]
    assert found == [(group, column), (group, column + 8), (group + 8, column), (group + 8, column + 8)]
    found = [loaded(fragments.deep_row, fragments.deep_chunk, lane, matrix) for matrix in range(4)]
    assert found == [(group, column), (group, column + 8), (group, column + 16), (group, column + 24)]


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
