"""A pruned linear layer and the ways to run it: what a user could call today, and ours."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from optprune_fast.deploy.linear import SparseLinear
from optprune_fast.deploy.weight import SparseWeight
from optprune_fast.ops.words import pack

LAYERS = {"784x300": (300, 784), "1024x1024": (1024, 1024), "4096x1024": (1024, 4096), "4096x4096": (4096, 4096),
          "8192x28672": (28672, 8192)}
Run = Callable[[Tensor], Tensor]


@dataclass
class Layer:
    """weight: [O, I] with its zeros; rivals: name -> call on [B, I] that gives [B, O]; nbytes: of what each holds."""

    weight: Tensor
    rivals: dict[str, Run]
    nbytes: dict[str, int]


def layer(size: tuple[int, int], sparsity: float, dtype: torch.dtype = torch.float32) -> Layer:
    """A random layer whose mask is uniform; values scaled so that outputs are about one."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(size, generator=generator) >= sparsity
    kept = torch.randn(int(mask.sum()), generator=generator) / math.sqrt(size[1] * max(1e-9, 1 - sparsity))
    kept = kept.to(dtype)
    weight = torch.zeros(size, dtype=dtype).masked_scatter_(mask, kept)
    words = pack(mask)
    index, bitmask = (SparseLinear(SparseWeight.of(words, kept, size, coded=coded)) for coded in (False, True))
    out = Layer(weight, {"index": index, "bitmask": bitmask, "dense": lambda x: torch.nn.functional.linear(x, weight)},
                {"index": index.nbytes, "bitmask": bitmask.nbytes, "dense": weight.nbytes})
    if dtype == torch.float32:
        _add_rivals(out, words)
    return out


def _add_rivals(layer: Layer, words: Tensor) -> None:
    short = layer.weight.bfloat16()
    layer.rivals["dense bfloat16"] = lambda x: torch.nn.functional.linear(x.bfloat16(), short)
    layer.nbytes["dense bfloat16"] = short.nbytes
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse ")  # CSR is in beta; its checks are off
        wide = layer.weight.to_sparse_csr()
        csr = torch.sparse_csr_tensor(wide.crow_indices().int(), wide.col_indices().int(), wide.values(), wide.shape)
    layer.rivals["torch CSR"] = lambda x: (csr @ x[0])[None] if len(x) == 1 else (csr @ x.T).T
    layer.nbytes["torch CSR"] = csr.crow_indices().nbytes + csr.col_indices().nbytes + csr.values().nbytes
    try:
        from scipy.sparse import csr_matrix
    except ImportError:
        return
    held = csr_matrix((csr.values().numpy(), csr.col_indices().numpy(), csr.crow_indices().numpy()),
                      shape=tuple(csr.shape))

    def scipy(x: Tensor) -> Tensor:
        return torch.from_numpy(held @ x.numpy()[0])[None] if len(x) == 1 else torch.from_numpy(held @ x.numpy().T).T

    layer.rivals["SciPy CSR"] = scipy
    layer.nbytes["SciPy CSR"] = held.data.nbytes + held.indices.nbytes + held.indptr.nbytes
