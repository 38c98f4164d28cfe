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
    library.kept_pair.restype, library.kept_pair.argtypes = ctypes.c_uint32, [ctypes.c_uint32, *[ctypes.c_int] * 2]
    library.descriptor.restype = ctypes.c_uint64
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
    """A lane's pair j is columns 8 j + 2 (lane % 4) and the next."""
    for lane, j in itertools.product(LANES, range(4)):
        first = 8 * j + 2 * (lane % 4)
        expected = 0xFFFF if bit == first else 0xFFFF0000 if bit == first + 1 else 0
        assert fragments.kept_pair(1 << bit, lane, j) == expected
        assert fragments.kept_pair(0xFFFFFFFF ^ 1 << bit, lane, j) == 0xFFFFFFFF ^ expected


# ---- products of a warpgroup


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize("rows", [0, 1024, 49 * 1024, 226 * 1024])
def test_a_descriptor_says_what_the_manual_asks_for(fragments, rows, k):
    """Start, an offset that goes unused, the distance of eight rows of 128 bytes, 16 bytes a unit; 1: the swizzle."""
    assert fragments.descriptor(rows, k) == (rows + 32 * k) // 16 | 1 << 16 | 1024 // 16 << 32 | 1 << 62


def test_rows_lie_as_the_swizzle_of_128_bytes_has_them(fragments):
    """The manual's Swizzle<3, 4, 3>: bits 4 to 6 of an address are changed by bits 7 to 9."""
    for row, c in itertools.product(range(256), range(8)):
        plain = 128 * row + 16 * c
        assert 16 * fragments.place(8, row, c) == plain ^ plain >> 3 & 0x70


def test_results_have_places_of_their_own_and_are_written_to_different_banks(fragments):
    places = {fragments.result_place(sample, c) for sample, c in itertools.product(range(256), range(16))}
    assert places == set(range(256 * 16))
    for first, c in itertools.product(range(0, 256, 8), range(16)):
        assert {fragments.result_place(first + i, c) % 8 for i in range(8)} == set(range(8))


def test_each_lane_says_where_eight_outputs_of_a_sample_go(fragments):
    """Of four matrices of 8 outputs × 8 samples: outputs 0 to 7 and 8 to 15 of eight samples, then of the next."""
    for lane in LANES:
        matrix, column = divmod(lane, 8)
        assert fragments.result_sample(lane) == matrix // 2 * 8 + column
        assert fragments.result_chunk(lane) == matrix % 2
