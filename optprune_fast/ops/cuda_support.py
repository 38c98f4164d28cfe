"""What work on CUDA devices shares: reasons to decline, tensors as kernels read them, and sending without a wait."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.runtime import cuda

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # as csrc/kernels/<op>/cuda.h numbers them
TENSOR_CORES = (8, 0)  # the oldest with the instructions that kernels of 16-bit types take
# 32-bit element numbers may run past the end of a tensor by one tile before the mask of the load stops them.
NARROW_LIMIT = 2**31 - 1 - 256


def declines_device(x: Tensor, oldest: tuple[int, int]) -> str | None:
    """Why a kernel that needs compute capability `oldest` does not take `x` where it lies, or None.

    >>> declines_device(torch.zeros(1), (8, 0))
    'needs tensors on a CUDA device, not on cpu'
    """
    if x.device.type != "cuda":
        return f"needs tensors on a CUDA device, not on {x.device.type}"
    capability = torch.cuda.get_device_capability(x.device)
    if capability < oldest:
        return "needs compute capability {}.{}, this device has {}.{}".format(*oldest, *capability)
    return None


def declines_dtype(x: Tensor, *able: torch.dtype) -> str | None:
    """Why a kernel for the dtypes `able` does not take `x`, or None.

    >>> declines_dtype(torch.zeros(1, dtype=torch.float64), torch.float32, torch.float16)
    'takes float32 or float16, not float64'
    """
    if x.dtype in able:
        return None
    names = [str(dtype).removeprefix("torch.") for dtype in (*able, x.dtype)]
    return f"takes {' or '.join(names[:-1])}, not {names[-1]}"


def declines_products(x: Tensor) -> str | None:
    """Why kernels of the CUDA module do not take `x` that multiply 16-bit types on tensor cores, or None."""
    reason = declines_dtype(x, *KINDS)
    if reason:
        return reason
    code = [divmod(number, 10) for number in cuda.module().architectures()]
    able = code if x.dtype == torch.float32 else [capability for capability in code if capability >= TENSOR_CORES]
    if not able:
        return ("was built for compute capability {}.{} and older, 16-bit types need code for {}.{}; CUDAARCHS=80 when "
                "building adds it".format(*max(code), *TENSOR_CORES))
    return declines_device(x, min(able))


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; one on the CPU is sent without waiting for what the device is doing.

    >>> tensor = torch.zeros(1)
    >>> sent(tensor, torch.device("cpu")) is tensor
    True
    """
    if tensor.device.type != "cpu":
        return tensor.to(device)
    # Only from pinned memory can a device read by itself.
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def with_unit_steps(tensor: Tensor) -> Tensor:
    """`tensor` itself if the last dimension is contiguous, whatever the strides before it; else a copy.

    >>> view = torch.zeros(2, 10, 7)[:, ::3, :5]
    >>> with_unit_steps(view) is view
    True
    """
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()


def needs_wide_offsets(*tensors: Tensor) -> bool:
    """Whether some element lies farther from its tensor's first than 32 bits can count."""
    reach = (sum((n - 1) * step for n, step in zip(t.shape, t.stride(), strict=True)) for t in tensors if t.numel())
    return max(reach, default=0) > NARROW_LIMIT
