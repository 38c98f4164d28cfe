"""sparse_linear: a linear layer that reads its kept weights alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from optprune_fast.ops.checks import check_sparse, require
from optprune_fast.ops.library import register, register_sample_batching
from optprune_fast.ops.planes_backward import register_linear_backward
from optprune_fast.ops.slices import Slices, dense_bands
from optprune_fast.runtime.dispatch import Operation

operation = Operation("sparse_linear", __name__, ("native", "numba", "torch"))


def sparse_linear(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
                  starts: Tensor, bias: Tensor | None = None, *, backend: str = "auto") -> Tensor:
    """Apply a linear layer whose weight [O, I] lies in slices: `x @ weight.T + bias`.

    x:        float [..., I], same dtype as values and bias
    shape:    [O, I]
    values, places, counts, rows, starts: the planes (optprune_fast/ops/slices.py); kernels trust what they hold, and
              `check_slices` looks
    returns:  float [..., O]; float32 sums for 16-bit types. Gradients of x and bias; weights have none

    Raises `TypeError` for wrong dtypes, `ValueError` for wrong shapes or devices, `BackendError` if the backend asked
    for cannot serve the call.

    >>> import torch
    >>> from optprune_fast.ops.slices import to_slices
    >>> words, kept = torch.tensor([[0b101], [0b010]]), torch.tensor([1.0, 2.0, 3.0])  # [[1, 0, 2], [0, 3, 0]]
    >>> sparse_linear(torch.tensor([[1.0, 10.0, 100.0]]), [2, 3], *to_slices(words, kept, 3))
    tensor([[201.,  30.]])
    """
    out: Tensor = operator(x, list(shape), values, places, counts, rows, starts, bias, backend=backend)
    return out


def serve(x: Tensor, shape: Sequence[int], values: Tensor, *rest: Tensor | None) -> Tensor:
    """`sparse_linear` for a layer in use, whose planes fit: no gradient, no graph of torch.compile, and a tenth of the
    time around the kernel. `x` alone is checked."""
    if x.dim() < 1 or x.shape[-1] != shape[1] or x.dtype != values.dtype or x.device != values.device:
        return sparse_linear(x, shape, values, *rest)  # type: ignore[arg-type]  # it says what is wrong
    out: Tensor = operation.serve(x, shape, values, *rest)
    return out


def check(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
          starts: Tensor, bias: Tensor | None) -> None:
    where = "sparse_linear"
    require(len(shape) == 2 and min(shape) >= 0, where, "shape must be [O, I]", shape=list(shape))
    check_sparse(where, x, shape[0], shape[1], 1, Slices(values, places, counts, rows, starts), bias)
    require(x.dim() >= 1 and x.shape[-1] == shape[1], where, f"x must be [..., {shape[1]}] for this weight", x=x,
            shape=list(shape))


def _kernel(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
            starts: Tensor, bias: Tensor | None = None, *, backend: str = "auto") -> Tensor:
    check(x, shape, values, places, counts, rows, starts, bias)
    out: Tensor = operation(x, shape, values, places, counts, rows, starts, bias, backend=backend)
    return out


def _fake(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, rows: Tensor,
          starts: Tensor, bias: Tensor | None = None, *, backend: str = "auto") -> Tensor:
    check(x, shape, values, places, counts, rows, starts, bias)
    return x.new_empty(*x.shape[:-1], shape[0])


operator = register(
    "sparse_linear",
    "(Tensor x, int[] shape, Tensor values, Tensor places, Tensor counts, Tensor rows, Tensor starts, "
    "Tensor? bias, *, str backend='auto') -> Tensor",
    kernel=_kernel, fake=_fake)
register_linear_backward("sparse_linear", Slices, Slices._fields, dense_bands)
register_sample_batching("sparse_linear", operator)
