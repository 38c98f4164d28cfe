"""The 10 and 13 bits of a 16-bit value."""

from __future__ import annotations

import pytest
import torch

from optprune_fast.formats.bits import patterns
from optprune_fast.formats.exponent_code import FIELDS, ExponentCode, pack_fields, unpack_fields

CODED = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


@CODED
def test_all_65536_patterns_come_back(dtype) -> None:
    values = torch.arange(65536).to(torch.int16).view(dtype)
    code = ExponentCode.of(values)
    code.validate()
    assert torch.equal(patterns(code.decode()), patterns(values))


@CODED
@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 255, 256, 257, 2047, 2048, 2049])
def test_any_count_comes_back(dtype, n, made) -> None:
    values = made.weight((n,), dtype, seed=n)
    code = ExponentCode.of(values)
    code.validate()
    assert len(code) == n
    assert torch.equal(patterns(code.decode()), patterns(values))


@CODED
def test_pruned_gaussian_weights_take_10_and_13_bits(dtype) -> None:
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0)).to(dtype)
    values = values[values.abs() > 0.7]
    code = ExponentCode.of(values)
    bits = 10 if dtype == torch.bfloat16 else 13
    assert len(code.escapes) < 0.001 * len(values)
    assert bits * len(values) / 8 < code.nbytes < (bits + 0.2) * len(values) / 8


@CODED
def test_the_planes_are_where_the_page_says(dtype, made) -> None:
    """A second, slow way from the planes to the bits."""
    values = made.weight((700,), dtype)
    code, (e, m) = ExponentCode.of(values), FIELDS[dtype]
    block = 1 << (16 - e)
    expected = (patterns(values).int() & 0xFFFF).tolist()
    for i, pattern in enumerate(expected):
        exponent = int(code.table[int(code.codes[i // 4]) >> 2 * (i % 4) & 3])
        for entry in code.escapes[code.escape_offsets[i // block] : code.escape_offsets[i // block + 1]].tolist():
            if (entry & 0xFFFF) >> e == i % block:
                exponent = entry & ((1 << e) - 1)
        low = int(code.low[i])
        if dtype == torch.bfloat16:
            assert pattern == (low >> 7) << 15 | exponent << m | low & 127
        else:
            middle, sign = code.middle[i // 4] >> 2 * (i % 4) & 3, code.signs[i // 8] >> i % 8 & 1
            assert pattern == int(sign) << 15 | exponent << m | int(middle) << 8 | low


def test_the_commonest_exponents_have_codes() -> None:
    values = torch.tensor([1.0] * 5 + [2.0] * 4 + [4.0] * 3 + [8.0] * 2 + [16.0]).bfloat16()
    code = ExponentCode.of(values)
    assert code.table.tolist() == [127, 128, 129, 130]
    assert code.escapes.tolist() == [(14 << 8 | 131)]


@pytest.mark.parametrize("width", [1, 2, 4])
def test_fields_come_back(width) -> None:
    for n in (0, 1, 7, 8, 9):
        values = torch.arange(n, dtype=torch.uint8) % (1 << width)
        assert torch.equal(unpack_fields(pack_fields(values, width), width, n), values)
