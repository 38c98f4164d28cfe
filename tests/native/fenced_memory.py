"""Run every native kernel on every sample with tensors that end where the memory of the process ends.

    python fenced_memory.py <instruction set>

A kernel that touches one byte past a tensor, even one whose value it then ignores, dies of a segmentation fault.
Started by test_memory.py, in a process of its own.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
from typing import Any

import torch
from torch import Tensor

from optprune_fast.ops import choose_bits, masked_conv2d, masked_linear, sparse_conv2d, sparse_linear, topk_threshold
from optprune_fast.runtime import native
from optprune_fast.testing.samples import samples
from optprune_fast.testing.variants import same_bits

PROT_NONE = 0
_kept: list[mmap.mmap] = []  # the memory behind the tensors


def before_the_fence(size: int, dtype: torch.dtype) -> Tensor:
    """[size], its last byte the last one before a page that must not be touched."""
    length = max(1, size * dtype.itemsize)
    pages = -(-length // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if ctypes.CDLL(None, use_errno=True).mprotect(
            ctypes.c_void_p(start + pages * mmap.PAGESIZE), ctypes.c_size_t(mmap.PAGESIZE), PROT_NONE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    _kept.append(memory)
    offset = pages * mmap.PAGESIZE - size * dtype.itemsize
    return torch.frombuffer(memory, dtype=dtype, count=size, offset=offset) if size else torch.zeros(0, dtype=dtype)


def fenced(tensor: Tensor) -> Tensor:
    """An equal tensor of the same strides whose last element stands before the fence."""
    if tensor.numel() == 0:
        return tensor
    extent = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    memory = before_the_fence(extent, tensor.dtype)
    memory.copy_(tensor.as_strided([extent], [1]))
    return memory.as_strided(tensor.shape, tensor.stride(), memory.storage_offset())


def fenced_empty(*shape: Any, dtype: torch.dtype = torch.float32, device: object = "cpu") -> Tensor:
    sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    return before_the_fence(math.prod(sizes), dtype).view(tuple(sizes))


def fenced_all(value: Any) -> Any:
    """The same arguments with every tensor in them before a fence."""
    if isinstance(value, Tensor):
        return fenced(value)
    return type(value)(map(fenced_all, value)) if isinstance(value, (tuple, list)) else value


def topk(*arguments: Any) -> Any:
    return topk_threshold.topk_threshold(*arguments, backend="native")


def main(isa: str) -> None:
    os.environ["OPTPRUNE_ISA"] = isa
    unfenced_empty, ran = torch.empty, 0
    for module in (choose_bits, masked_conv2d, masked_linear, sparse_conv2d, sparse_linear, topk_threshold):
        operation = module.operation
        # Words of this one are made by the function, the others' outputs by the implementation.
        run = topk if module is topk_threshold else operation.implementation("native").run
        for sample in samples(operation.name):
            arguments = sample.arguments
            if operation.name == "masked_conv2d":
                arguments = (*arguments, *((1, 1), (0, 0), (1, 1), 1)[len(arguments) - 3 :])
            expected = run(*arguments)
            moved = fenced_all(arguments)
            torch.empty = fenced_empty
            got = run(*moved)
            torch.empty = unfenced_empty
            if not same_bits(got, expected):
                sys.exit(f"{operation.name} {sample.name}: another result")
            ran += 1
            _kept.clear()
    print(ran, {kernel: n for (kernel, row), n in native.calls().items() if n and row == isa})


if __name__ == "__main__":
    main(sys.argv[1])
