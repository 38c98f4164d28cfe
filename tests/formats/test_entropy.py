"""Coded streams: exact, equal everywhere, near the bound."""

from __future__ import annotations

import contextlib
import hashlib
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from optprune_fast.formats import streams
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import packed, patterns
from optprune_fast.formats.bound import bound_bytes, entropy
from optprune_fast.formats.entropy import Entropy


def array(data):
    return np.frombuffer(data, np.uint8)


def pruned(shape, density, dtype, seed=0):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    threshold = weight.abs().flatten().kthvalue(max(1, int((1 - density) * weight.numel()))).values
    return Bitmask.of(weight.to(dtype), packed(weight.abs() > threshold))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("density", [0.5, 0.2, 0.1, 0.05])
def test_independent_weights_take_little_more_than_the_bound(density, dtype) -> None:
    bitmask = pruned((256, 512), density, dtype)
    held = Entropy.from_bitmask(bitmask)
    assert held.nbytes < 1.02 * bound_bytes(bitmask)
    back = held.to_bitmask()
    assert torch.equal(back.words, bitmask.words)
    assert torch.equal(patterns(back.values), patterns(bitmask.values))


def test_rows_and_columns_of_different_density_take_less_than_the_bound() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.rand(256, 1, generator=generator), torch.rand(1, 512, generator=generator)
    kept = torch.rand(256, 512, generator=generator) < rows * columns
    data, contextual = streams.encode_mask(streams.unsigned(packed(kept)), 512, int(kept.sum()))
    assert contextual
    assert len(data) < 0.85 * entropy([int(kept.sum()), int((~kept).sum())]) / 8


def test_the_bytes_are_the_same_everywhere() -> None:
    """The numbers are part of the format: a change of them needs a new version of the file."""
    kept = (torch.arange(3000).view(30, 100) ** 2 % 7) < 2
    values = (torch.arange(float(kept.sum())) - 640) / 64
    weight = torch.zeros(30, 100).masked_scatter_(kept, values)
    held = Entropy.from_dense(weight, packed(kept))
    assert (held.parameters(), hashlib.sha256(held.data.numpy().tobytes()).hexdigest()) == PINNED


PINNED = ({"entropy": [1286, 255, 82, 1, 14, 129, 130, 128, 127, 126, 125, 124, 123]},
          "461b4016fdff23079cdfd469bfe2341766bac35931875857b255edd84cceda5c")


@pytest.mark.parametrize("kind", ["ones", "zeros", "checks", "one bit", "one column", "rare"])
def test_masks_with_a_pattern_come_back(kind) -> None:
    """Probabilities near 0 and 1, and long runs of carries."""
    kept = torch.zeros(64, 700, dtype=torch.bool)
    if kind == "ones":
        kept[:] = True
    elif kind == "checks":
        kept[::2, ::2] = kept[1::2, 1::2] = True
    elif kind == "one bit":
        kept[-1, -1] = True
    elif kind == "one column":
        kept[:, 13] = True
    elif kind == "rare":
        kept[:-1] = True
    words = packed(kept)
    data, contextual = streams.encode_mask(streams.unsigned(words), 700, int(kept.sum()))
    out = torch.zeros_like(words)
    streams.decode_mask(array(data), streams.unsigned(out), 700, int(kept.sum()), contextual)
    assert torch.equal(out, words)
    assert kept.numel() <= streams.most(len(data)) or kind == "ones"


def test_a_long_run_takes_its_bytes_whichever_bit_it_is_of() -> None:
    """Of what is coded at the lower end of the interval only zeros remain, and these say how long the run is."""
    for first in (False, True):
        kept = torch.full((100, 10_000), not first)
        kept[0, 0] = first
        data, _ = streams.encode_mask(streams.unsigned(packed(kept)), 10_000, int(kept.sum()))
        assert kept.numel() <= streams.most(len(data))


def test_a_surprise_is_coded_at_any_length() -> None:
    """Buffers grow: every bit is the one that the coder expects least."""
    kept = torch.zeros(3, 40_000, dtype=torch.bool)
    kept[1] = torch.rand(40_000, generator=torch.Generator().manual_seed(0)) < 0.5
    words = packed(kept)
    for contextual in (False, True):
        data = streams._encoded(streams._loops("numba_mask").encode, 1, streams.unsigned(words), 40_000,
                                *streams._contexts(10, kept.numel(), contextual))
        out = torch.zeros_like(words)
        streams.decode_mask(array(data), streams.unsigned(out), 40_000, 10, contextual)
        assert torch.equal(out, words)


@pytest.mark.parametrize("bits", [5, 8, 11])
def test_exponents_of_every_kind_come_back(bits) -> None:
    generator = np.random.default_rng(0)
    for symbols in (generator.integers(0, 1 << bits, 3000), np.full(3000, 3), np.arange(1 << bits),
                    np.minimum(generator.geometric(0.5, 3000), 30), np.zeros(0, np.int64)):
        data, ranks = streams.encode_exponents(symbols.astype(np.uint16), bits)
        assert np.array_equal(streams.decode_exponents(array(data), len(symbols), bits, ranks), symbols)


def test_zeros_that_all_mantissas_end_in_are_not_stored() -> None:
    """Weights that were bfloat16 before they became float32."""
    narrow = pruned((64, 128), 0.5, torch.bfloat16)
    wide = Bitmask(narrow.shape, narrow.words, narrow.values.float(), narrow.row_offsets)
    held = Entropy.from_bitmask(wide)
    assert held.zeros == 16
    assert held.nbytes == Entropy.from_bitmask(narrow).nbytes
    assert torch.equal(held.to_bitmask().values, wide.values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_values_are_put_together_step_by_step(dtype, monkeypatch, made) -> None:
    monkeypatch.setattr(streams, "_STEP", 16)
    weight, mask = made.weight((9, 70), dtype), made.masks((9, 70))["half"]
    held = Entropy.from_dense(weight, packed(mask))
    assert torch.equal(patterns(held.to_dense()), made.expected(weight, mask))


def test_decoding_takes_little_more_than_what_it_gives(monkeypatch) -> None:
    monkeypatch.setattr(streams, "_STEP", 1 << 12)
    held = Entropy.from_bitmask(pruned((512, 2048), 0.5, torch.float32))
    values = held.to_bitmask().values.nbytes
    tracemalloc.start()
    held.to_bitmask()
    _, peak = tracemalloc.get_traced_memory()  # of NumPy: the words are torch's
    tracemalloc.stop()
    exponents, streamed = values // 2, 2 * sum(held.lengths)
    assert values < peak < values + exponents + streamed + 64 * streams._STEP


def test_streams_of_other_masks_are_found() -> None:
    held = Entropy.from_bitmask(pruned((32, 64), 0.2, torch.float32))
    other = held.data.clone()
    other[2] ^= 255
    with pytest.raises(ValueError, match="the mask does not keep as many weights as stated"):
        replace(held, data=other).to_bitmask()


def test_garbage_decodes_to_garbage_and_to_nothing_larger() -> None:
    held = Entropy.from_bitmask(pruned((32, 64), 0.2, torch.float32))
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        noise = torch.randint(0, 256, held.data.shape, dtype=torch.uint8, generator=generator)
        with contextlib.suppress(ValueError):
            replace(held, data=noise).to_bitmask().validate()


def test_without_numba_the_reason_is_told(monkeypatch) -> None:
    from optprune_fast.ops import numba_support

    monkeypatch.setattr(numba_support, "_reason", "Numba cannot be imported (gone)")
    with pytest.raises(RuntimeError, match=r"entropy: Numba cannot be imported \(gone\)\ntarget='cpu'"):
        Entropy.from_bitmask(pruned((32, 64), 0.2, torch.float32))
