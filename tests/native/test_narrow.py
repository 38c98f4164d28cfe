"""Few samples take half registers where registers are wide, and no other call does: counted by the kernels."""

from __future__ import annotations

import pytest
import torch

from optprune_fast.ops.slices import to_slices
from optprune_fast.ops.sparse_linear import sparse_linear
from optprune_fast.ops.words import pack
from optprune_fast.runtime import native

SHAPE = (40, 300)


def answer(batch: int) -> tuple[torch.Tensor, int]:
    """The layer's answer, and how many calls a narrow kernel served meanwhile."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(SHAPE, generator=generator) < 0.3
    kept = torch.randn(int(mask.sum()), generator=generator)
    x = torch.randn(batch, SHAPE[1], generator=generator)
    before = native.module().sparse_linear_narrow_calls()
    out = sparse_linear(x, SHAPE, *to_slices(pack(mask), kept, SHAPE[1]), backend="native")
    return out, native.module().sparse_linear_narrow_calls() - before


@pytest.mark.parametrize("batch", [1, 2, 5, 8, 9, 16])
@pytest.mark.parametrize("isa", native.isas())
def test_two_to_eight_samples_on_wide_registers_are_served_by_narrow_ones(
        isa: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTPRUNE_ISA", "scalar")
    expected, _ = answer(batch)
    monkeypatch.setenv("OPTPRUNE_ISA", isa)
    found, narrow = answer(batch)
    assert narrow == (isa == "avx512" and 2 <= batch <= 8)
    assert torch.equal(found, expected)
