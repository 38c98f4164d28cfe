"""Weights that other libraries wrote or will read."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import patterns
from optprune_fast.formats.foreign import from_prune_state, from_scipy, from_torch_csr, to_scipy, to_torch_csr


def sparse(made, shape=(4, 6, 3), dtype=torch.float32):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(dtype)
    weight.view(-1)[:6] = 0  # some are kept
    return Bitmask.of(weight, made.words(made.masks(shape)["half"]))


def assert_same(held, bitmask) -> None:
    assert held.shape == bitmask.shape
    assert torch.equal(held.mask_words(), bitmask.words)
    assert torch.equal(patterns(held.values), patterns(bitmask.values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_scipy_reads_and_writes_them(dtype, made) -> None:
    pytest.importorskip("scipy")
    bitmask = sparse(made, dtype=dtype)
    there = to_scipy(bitmask)
    assert torch.equal(torch.from_numpy(there.toarray()), bitmask.to_dense().view(4, 18))
    assert_same(from_scipy(there, bitmask.shape), bitmask)
    assert_same(from_scipy(there.tocoo(), bitmask.shape), bitmask)
    with pytest.raises(ValueError, match="the shape must be that of a weight with these rows and columns"):
        from_scipy(there, (4, 17))
    with pytest.raises(TypeError, match="SciPy has no bfloat16"):
        to_scipy(sparse(made, dtype=torch.bfloat16))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta", "ignore:Sparse invariant checks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_torch_csr_reads_and_writes_them(dtype, made) -> None:
    bitmask = sparse(made, dtype=dtype)
    there = to_torch_csr(bitmask)
    assert torch.equal(there.to_dense(), bitmask.to_dense().view(4, 18))
    assert_same(from_torch_csr(there, bitmask.shape), bitmask)
    dense = bitmask.to_dense().view(4, 18)
    assert torch.equal(from_torch_csr(dense.to_sparse_csr()).to_dense(), dense)
    with pytest.raises(TypeError, match="takes a two-dimensional sparse CSR tensor"):
        from_torch_csr(dense)


def test_pruned_state_dicts_are_read() -> None:
    net = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    prune.random_unstructured(net[0], "weight", amount=0.5)
    found = from_prune_state(net.state_dict())
    assert found.keys() == {"0.weight", "0.bias"} | {f"1.{name}" for name in net[1].state_dict()}
    assert torch.equal(found["0.weight"].to_dense(), net[0].weight)
    assert found["0.weight"].nnz == int(net[0].weight_mask.sum())
    assert torch.equal(found["1.weight"], net[1].weight)
    with pytest.raises(ValueError, match="a mask has the shape of its weight"):
        from_prune_state({"w_orig": torch.ones(3), "w_mask": torch.ones(4)})
