"""Weights of other libraries: CSR of SciPy and torch, and state dicts of `torch.nn.utils.prune`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import offsets_dtype, packed
from optprune_fast.formats.csr import CSR
from optprune_fast.ops.words import matrix
from optprune_fast.runtime.errors import message

__all__ = ["from_prune_state", "from_scipy", "from_torch_csr", "to_scipy", "to_torch_csr"]


def to_scipy(bitmask: Bitmask) -> Any:
    """A `scipy.sparse.csr_array` [O, I] that shares the values. SciPy has no bfloat16, and computes nothing in float16.

    Kept zeros are explicit zeros there.
    """
    from scipy.sparse import csr_array

    held = CSR.from_bitmask(bitmask)
    if held.dtype == torch.bfloat16:
        raise TypeError(message("to_scipy", "SciPy has no bfloat16", "use .float() before", weight=held))
    parts = (held.values.numpy(), held.column_indices.numpy(), held.row_offsets.numpy())
    return csr_array(parts, shape=matrix(held.shape))


def from_scipy(matrix_: Any, shape: tuple[int, ...] | None = None) -> CSR:
    """Any SciPy sparse matrix of floats; duplicates are added, columns sorted, explicit zeros stay kept.

    shape: of the weight, if it has other dimensions than two
    """
    csr = matrix_.tocsr().copy()
    csr.sum_duplicates()
    return _csr(torch.from_numpy(csr.indptr), torch.from_numpy(csr.indices), torch.from_numpy(csr.data),
                tuple(csr.shape), shape)


def to_torch_csr(bitmask: Bitmask) -> Tensor:
    """A `torch.sparse_csr` tensor [O, I] with 32-bit indices."""
    held = CSR.from_bitmask(bitmask)
    return torch.sparse_csr_tensor(held.row_offsets, held.column_indices, held.values, matrix(held.shape))


def from_torch_csr(tensor: Tensor, shape: tuple[int, ...] | None = None) -> CSR:
    """A two-dimensional `torch.sparse_csr` tensor; explicit zeros stay kept."""
    if tensor.layout != torch.sparse_csr or tensor.dim() != 2:
        raise TypeError(message("from_torch_csr", "takes a two-dimensional sparse CSR tensor", "tensor.to_sparse_csr()",
                                layout=tensor.layout))
    return _csr(tensor.crow_indices(), tensor.col_indices(), tensor.values().detach(), tuple(tensor.shape), shape)


def from_prune_state(state: Mapping[str, Tensor]) -> dict[str, Bitmask | Tensor]:
    """A state dict of a model that `torch.nn.utils.prune` has pruned: `<name>_orig` and `<name>_mask` become `<name>`.

    Every other tensor stays as it is. Raises `ValueError` where a mask has another shape than its weight.
    """
    found: dict[str, Bitmask | Tensor] = {}
    for key, tensor in state.items():
        name = key.removesuffix("_orig")
        if key.endswith("_mask") and key.removesuffix("_mask") + "_orig" in state:
            continue
        if name == key or f"{name}_mask" not in state:
            found[key] = tensor
            continue
        mask = state[f"{name}_mask"]
        if mask.shape != tensor.shape:
            raise ValueError(message("from_prune_state", "a mask has the shape of its weight", weight=tensor,
                                     mask=mask))
        found[name] = Bitmask.of(tensor, packed((mask != 0).reshape(matrix(tensor.shape))))
    return found


def _csr(row_offsets: Tensor, columns: Tensor, values: Tensor, seen: tuple[int, ...],
         shape: tuple[int, ...] | None) -> CSR:
    shape = seen if shape is None else tuple(shape)
    if matrix(shape) != seen:
        raise ValueError(message("CSR", "the shape must be that of a weight with these rows and columns",
                                 shape=list(shape), rows_and_columns=list(seen)))
    held = CSR(shape, row_offsets.to(offsets_dtype(len(values))), columns.int(), values.contiguous())
    held.validate()
    return held
