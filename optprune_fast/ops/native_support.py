"""What the native implementations share: their one reason to decline, and tensors as kernels read them."""

from __future__ import annotations

import torch
from torch import Tensor


def declines_float32(x: Tensor) -> str | None:
    """Why a float32 kernel for the CPU does not take `x`, or None.

    >>> declines_float32(torch.zeros(1, dtype=torch.float64))
    'takes float32, not float64'
    """
    if x.device.type != "cpu":
        return f"takes CPU tensors, not {x.device.type}"
    if x.dtype != torch.float32:
        return f"takes float32, not {str(x.dtype).removeprefix('torch.')}"
    return None


def rows_in_place(tensor: Tensor, inner: int) -> Tensor:
    """`tensor` itself if its last `inner` dimensions are contiguous, whatever the stride before them; else a copy.

    Words of one layer are a slice of [P, W]: each candidate is contiguous, the candidates are W words apart.

    >>> slice = torch.zeros(4, 100)[:, :6].unflatten(1, (2, 3))
    >>> rows_in_place(slice, 2) is slice
    True
    """
    step = 1
    for size, stride in zip(reversed(tensor.shape[-inner:]), reversed(tensor.stride()[-inner:]), strict=True):
        if size != 1 and stride != step:
            return tensor.contiguous()
        step *= size
    return tensor


def candidate_step(tensor: Tensor, dims: int) -> int:
    """Elements from one candidate to the next: 0 where the tensor has no candidate axis, so that all share it."""
    return tensor.stride(0) if tensor.dim() == dims else 0


FLOATS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # Type of csrc/kernels/sparse_linear/sparse_linear.h


def declines_short_floats(x: Tensor) -> str | None:
    """Why a kernel for the CPU that reads float32 and 16-bit types does not take `x`, or None.

    >>> declines_short_floats(torch.zeros(1, dtype=torch.float64))
    'takes float32, bfloat16 and float16, not float64'
    """
    if x.device.type != "cpu":
        return f"takes CPU tensors, not {x.device.type}"
    if x.dtype not in FLOATS:
        return f"takes float32, bfloat16 and float16, not {str(x.dtype).removeprefix('torch.')}"
    return None


def floats_in_place(tensor: Tensor) -> Tensor:
    """`tensor` itself if it is float32 without gaps; else a copy that is. Asking first costs a small layer less."""
    return tensor if tensor.dtype == torch.float32 and tensor.is_contiguous() else tensor.float().contiguous()


def planes_in_place(values: Tensor, places: Tensor, counts: Tensor, rows: Tensor, starts: Tensor
                    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """The planes of slices without gaps, which must stay alive, and what the bindings take: addresses and the type."""
    planes = (values, places, counts, rows, starts)
    if not all(map(Tensor.is_contiguous, planes)):  # asking is cheaper than copies of what has none
        return planes_in_place(*(plane.contiguous() for plane in planes))
    listed = places.dtype == torch.uint8
    return planes, (values.data_ptr(), FLOATS[values.dtype], places.data_ptr() if listed else 0,
                    0 if listed else places.data_ptr(), counts.data_ptr(), rows.data_ptr(), starts.data_ptr())
