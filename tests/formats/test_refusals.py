"""Formats refuse what they cannot hold, and planes that are not those of one weight."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.block import Block
from optprune_fast.formats.csr import CSR
from optprune_fast.formats.delta_csr import DeltaCSR
from optprune_fast.formats.entropy import Entropy
from optprune_fast.formats.exponent_code import ExponentCode
from optprune_fast.formats.tiled_index import TiledIndex
from optprune_fast.formats.two_four import TwoFour

FULL = torch.full((2, 5), -1)


def held(kind, made, shape=(4, 300), mask="half", **options):
    found = made.two_four(shape) if kind is TwoFour else made.blocks(shape, (4, 4)) if kind is Block else (
        made.masks(shape)[mask])
    return kind.from_dense(made.weight(shape), made.words(found), **options)


def test_weights_and_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TypeError, match="a weight must be float32, float16, bfloat16 or float64"):
        Bitmask.from_dense(torch.ones(2, 3, dtype=torch.int32), torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"words must be int64\[2, 1\]"):
        Bitmask.from_dense(torch.ones(2, 3), torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="bits past the last column must be zero"):
        Bitmask.from_dense(torch.ones(2, 3), torch.full((2, 1), 8))
    with pytest.raises(ValueError, match="values must be raw or exponent"):
        Bitmask.from_dense(torch.ones(2, 3), torch.full((2, 1), 4), values="packed")
    with pytest.raises(TypeError, match="codes bfloat16 and float16"):
        Bitmask.from_dense(torch.ones(2, 3), torch.full((2, 1), 4), values="exponent")
    with pytest.raises(ValueError, match="values must be raw\n"):
        CSR.from_dense(torch.ones(2, 3).half(), torch.full((2, 1), 4), values="exponent")


def test_masks_that_a_format_cannot_hold_are_refused(made) -> None:
    with pytest.raises(ValueError, match="at most 2 weights may be kept in every 4 columns"):
        TwoFour.from_dense(torch.ones(2, 320), FULL)
    with pytest.raises(ValueError, match="the mask must keep or drop whole blocks; tried 32×32, 16×16"):
        held(Block, made).from_dense(torch.ones(4, 300), made.words(made.masks((4, 300))["half"]))
    with pytest.raises(ValueError, match="a row must have at most 65536 columns"):
        DeltaCSR.from_dense(torch.ones(1, 65537), torch.zeros(1, 1025, dtype=torch.int64))


def changed(tensor, at, value):
    out = tensor.clone()
    out[at] = value
    return out


BREAKS = [
    (Bitmask, "words", lambda t: t[:1], r"words must be int64\[4, 5\]"),
    (Bitmask, "words", lambda t: t.int(), "words must be int64"),
    (Bitmask, "words", lambda t: changed(t, (0, -1), 1 << 50), "bits past the last column must be zero"),
    (Bitmask, "words", lambda t: changed(t, (0, 0), ~t[0, 0]), "must count the bits of words"),
    (Bitmask, "values", lambda t: t[1:], "must start at 0, never fall"),
    (Bitmask, "values", lambda t: t.int(), "values must be floats"),
    (Bitmask, "row_offsets", lambda t: changed(t, 1, 0), "rise by at most 300|count the bits"),
    (TiledIndex, "offsets", lambda t: changed(t, 1, 10**6), "offsets must start at 0, never fall, rise by at most 256"),
    (TiledIndex, "offsets", lambda t: t.long(), r"offsets must be int32\[9\]"),
    (TiledIndex, "offsets", lambda t: changed(t, 0, 1), "must start at 0"),
    (TiledIndex, "offsets", lambda t: changed(t, -1, t[-1] - 1), "end at"),
    (TiledIndex, "columns_in_tile", lambda t: changed(t, 1, t[0]), "columns must rise within a row"),
    (TiledIndex, "columns_in_tile", lambda t: changed(t, -1, 44), "columns must lie in the row"),
    (TiledIndex, "columns_in_tile", lambda t: t[:-1], r"columns_in_tile must be uint8"),
    (CSR, "row_offsets", lambda t: changed(t, 1, -5), "row_offsets must start at 0, never fall"),
    (CSR, "column_indices", lambda t: changed(t, 0, -1), "columns must lie in the row"),
    (CSR, "column_indices", lambda t: changed(t, -1, 300), "columns must lie in the row"),
    (CSR, "column_indices", lambda t: changed(t, 1, t[0]), "columns must rise within a row"),
    (DeltaCSR, "gaps", lambda t: changed(t, 0, -1), "columns must lie in the row"),
    (DeltaCSR, "row_offsets", lambda t: t[:-1], r"row_offsets must be int32\[5\]"),
    (TwoFour, "group_codes", lambda t: changed(t, (0, 0), 0x12), "a group's places must rise, be equal, or be 1 and 0"),
    (TwoFour, "group_codes", lambda t: t[:, 1:], r"group_codes must be uint8\[4, 38\]"),
    (TwoFour, "group_codes", lambda t: changed(t, (0, -1), t[0, -1] & 15), "past the last group must be 1"),
    (TwoFour, "values", lambda t: t[:, 1:], r"values must be float32\[4, 150\]"),
    (TwoFour, "values", torch.ones_like, r"slots that are not used must be \+0.0"),
    (Block, "values", lambda t: t[1:], r"values must be float32\[\d+, 4, 4\]"),
    (Block, "words", lambda t: changed(t, (0, 1), 1 << 50), "bits past the last column"),
    (Entropy, "data", lambda t: t[1:], r"data must be uint8\[\d+\]"),
    (Entropy, "kept", lambda n: -1, "counts must lie in their ranges"),
    (Entropy, "kept", lambda n: 10**9, "counts must lie in their ranges"),
    (Entropy, "zeros", lambda n: 24, "counts must lie in their ranges"),
    (Entropy, "ranks", lambda r: (256,), "at most 8 exponents of 8 bits have ranks"),
    (Entropy, "shape", lambda s: (1 << 20, 1 << 20), "too short or too long for the shape"),
    (Entropy, "lengths", lambda n: (n[0] + 1, n[1]), r"data must be uint8"),
]


@pytest.mark.parametrize(("kind", "plane", "broken", "rule"), BREAKS)
def test_planes_that_are_not_those_of_a_weight_are_found(kind, plane, broken, rule, made) -> None:
    sound = held(kind, made)
    sound.validate()
    with pytest.raises(ValueError, match=rule):
        replace(sound, **{plane: broken(getattr(sound, plane))}).validate()


def test_a_column_past_the_last_group_is_found(made) -> None:
    sound = TwoFour.from_dense(torch.ones(1, 5), torch.tensor([[0b10001]]))
    with pytest.raises(ValueError, match="columns must lie in the row"):
        replace(sound, group_codes=torch.tensor([[0x50]], dtype=torch.uint8)).validate()
    with pytest.raises(ValueError, match=r"values past the edges must be \+0.0"):
        replace(Block.from_bitmask(Bitmask.of(torch.ones(1, 5), torch.tensor([[31]])), (4, 4)),
                values=torch.ones(2, 4, 4)).validate()


CODE_BREAKS = [
    ("low", lambda t: t[:, None], "low must be one byte a value"),
    ("codes", lambda t: t[1:], r"codes must be uint8\[50\]"),
    ("middle", lambda t: torch.zeros(1, dtype=torch.uint8), r"middle must be uint8\[0\]"),
    ("table", lambda t: t[1:], r"table must be uint8\[4\]"),
    ("escapes", lambda t: t.int(), r"escapes must be int16"),
    ("escapes", lambda t: changed(t, -1, -1), "escapes must be of values that are there"),
    ("escape_offsets", lambda t: t + 1, "escape_offsets must start at 0"),
]


@pytest.mark.parametrize(("plane", "broken", "rule"), CODE_BREAKS)
def test_codes_that_are_not_those_of_values_are_found(plane, broken, rule, made) -> None:
    sound = ExponentCode.of(made.weight((200,), torch.bfloat16))
    sound.validate()
    with pytest.raises(ValueError, match=rule):
        replace(sound, **{plane: broken(getattr(sound, plane))}).validate()


def test_planes_of_another_format_are_refused(made) -> None:
    sound = held(Bitmask, made)
    with pytest.raises(ValueError, match="csr: the planes are not those of this format"):
        CSR.from_planes(sound.shape, sound.dtype, sound.planes(), {})
    with pytest.raises(ValueError, match="the values are of another dtype than stated"):
        Bitmask.from_planes(sound.shape, torch.float64, sound.planes(), {})
    with pytest.raises(ValueError, match="a block has 1 to 1024 rows and columns"):
        Block.from_planes((4, 300), torch.float32, held(Block, made).planes(), {"block": [0, 4]})
