"""rows_linear: a linear layer on a GPU that reads its kept weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from optprune_fast.ops.checks import require
from optprune_fast.ops.library import register, register_sample_batching
from optprune_fast.ops.planes_backward import register_linear_backward
from optprune_fast.ops.rows import TILE, Rows, dense_bands
from optprune_fast.ops.words import word_count
from optprune_fast.runtime.dispatch import Operation
from optprune_fast.runtime.errors import message

operation = Operation("rows_linear", __name__, ("cuda", "triton", "torch"))
_WAY_OUT = "optprune_fast.ops.rows tells how the planes lie"


def rows_linear(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, starts: Tensor,
                bias: Tensor | None = None, *, backend: str = "auto") -> Tensor:
    """Apply a linear layer whose weight [O, I] lies in rows, as GPUs read it: `x @ weight.T + bias`.

    x:        float [..., I], same dtype as values and bias
    shape:    [O, I]
    values, places, counts, starts:  the planes (optprune_fast/ops/rows.py); kernels trust what they hold
    returns:  float [..., O]; float32 sums for 16-bit types. Gradients of x and bias; weights have none

    Raises `TypeError` for wrong dtypes, `ValueError` for wrong shapes or devices, `BackendError` if the backend asked
    for cannot serve the call. `sparse_linear` is for CPUs.

    >>> words, kept = torch.tensor([[0b101], [0b010]]), torch.tensor([1.0, 2.0, 3.0])  # [[1, 0, 2], [0, 3, 0]]
    >>> starts, no_counts = torch.tensor([0, 2, 3], dtype=torch.int32), torch.empty(0, dtype=torch.int16)
    >>> rows_linear(torch.tensor([[1.0, 10.0, 100.0]]), [2, 3], kept, words, no_counts, starts, backend="torch")
    tensor([[201.,  30.]])
    """
    out: Tensor = operator(x, list(shape), values, places, counts, starts, bias, backend=backend)
    return out


def serve(x: Tensor, shape: Sequence[int], values: Tensor, *rest: Tensor | None) -> Tensor:
    """`rows_linear` for a layer in use, whose planes fit: no gradient and no graph of torch.compile. `x` alone is
    checked."""
    if x.dim() < 1 or x.shape[-1] != shape[1] or x.dtype != values.dtype or x.device != values.device:
        return rows_linear(x, shape, values, *rest)  # type: ignore[arg-type]  # it says what is wrong
    out: Tensor = operation.serve(x, shape, values, *rest)
    return out


def check(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, starts: Tensor,
          bias: Tensor | None) -> None:
    where = "rows_linear"
    seen: dict[str, Any] = {"x": x, "values": values, "places": places, "counts": counts, "starts": starts}
    seen |= {} if bias is None else {"bias": bias}
    require(len(shape) == 2 and min(shape) >= 0, where, "shape must be [O, I]", shape=list(shape))
    if not x.dtype.is_floating_point or x.dtype != values.dtype or (bias is not None and bias.dtype != x.dtype):
        raise TypeError(message(where, "x, values and bias must have one floating dtype", "try x.to(values.dtype)",
                                **seen))
    if places.dtype not in (torch.uint8, torch.int64) or counts.dtype != torch.int16 or starts.dtype not in (
            torch.int32, torch.int64):
        raise TypeError(message(where, "places must be uint8 or int64, counts int16 and starts int32 or int64",
                                _WAY_OUT, **seen))
    require(all(tensor.device == x.device for tensor in seen.values()), where, "all tensors must be on one device",
            "move them with .to(device)", **seen)
    coded, (outputs, inputs) = places.dtype == torch.int64, shape
    expected = {"values": (values.numel(),), "starts": (outputs + 1,),
                "places": (outputs, word_count(inputs)) if coded else (values.numel(),),
                "counts": (0 if coded else outputs * -(-inputs // TILE),)}
    for name, size in expected.items():
        require(tuple(seen[name].shape) == size, where, f"{name} must be {list(size)} for a weight {list(shape)}",
                _WAY_OUT, **seen)
    require(bias is None or tuple(bias.shape) == (outputs,), where, f"bias must be [{outputs}]", **seen)
    require(x.dim() >= 1 and x.shape[-1] == inputs, where, f"x must be [..., {inputs}] for this weight", x=x,
            shape=list(shape))


def _kernel(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, starts: Tensor,
            bias: Tensor | None = None, *, backend: str = "auto") -> Tensor:
    check(x, shape, values, places, counts, starts, bias)
    out: Tensor = operation(x, shape, values, places, counts, starts, bias, backend=backend)
    return out


def _fake(x: Tensor, shape: Sequence[int], values: Tensor, places: Tensor, counts: Tensor, starts: Tensor,
          bias: Tensor | None = None, *, backend: str = "auto") -> Tensor:
    check(x, shape, values, places, counts, starts, bias)
    return x.new_empty(*x.shape[:-1], shape[0])


operator = register(
    "rows_linear",
    "(Tensor x, int[] shape, Tensor values, Tensor places, Tensor counts, Tensor starts, Tensor? bias, *, "
    "str backend='auto') -> Tensor",
    kernel=_kernel, fake=_fake)
register_linear_backward("rows_linear", Rows, Rows._fields, dense_bands)
register_sample_batching("rows_linear", operator)
