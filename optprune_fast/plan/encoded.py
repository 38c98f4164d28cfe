"""A program's steps as numbers that the kernels read, and its inputs as rows of numbers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from optprune_fast.plan.placed import Placed, order_of
from optprune_fast.plan.program import SPACES, Program, Step

# Their kernels work on the last dimensions, so the width comes first.
REDUCING = {"mean", "softmax", "log_softmax", "layer_norm", "matmul"}


def encoded(step: Step, program: Program) -> list[list[int]]:
    """out, a, b as the kernel reads them; b is a where there is none."""
    first = step.op in REDUCING
    out, a, b = (None if p is None else _encode(p, program.width, first) for p in (step.out, step.a, step.b))
    assert out is not None
    assert a is not None
    if step.op == "widen":  # written one register of samples at a time
        rank = out[2]
        out = [out[0], out[1], rank - 1, *out[3:2 + rank], *out[3 + rank:-1]]
    if step.op == "linear":  # positions and width are one run of registers
        out, a = _flat_run(out), _flat_run(a)
    return [out, a, a if b is None else b]


def _encode(placed: Placed, width: int, width_first: bool) -> list[int]:
    """[space, offset, rank, shape, stride]; a wide tensor has its registers of samples as one more dimension."""
    shape, strides, offset = list(placed.shape), list(placed.strides), placed.buffer.offset + placed.offset
    more = (1, 0) if placed.buffer.space == "constant" else (width, 1)
    if placed.narrow:
        shape, strides = shape or [1], strides or [1]
    else:
        scale = 1 if placed.buffer.space == "constant" else width
        strides, offset = [s * scale for s in strides], offset * scale
        place = 0 if width_first else len(shape)
        shape.insert(place, more[0])
        strides.insert(place, more[1])
    return [SPACES.index(placed.buffer.space), offset, len(shape), *shape, *strides]


def _flat_run(tensor: list[int]) -> list[int]:
    rank = tensor[2]
    shape, strides = tensor[3:3 + rank], tensor[3 + rank:]
    if rank == 2:
        return tensor
    return [tensor[0], tensor[1], 2, shape[0], shape[1] * shape[2], strides[0], 1]


def input_parts(program: Program, args: Mapping[int | str, Tensor], samples: int,
                dense: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """[B, features] of the narrow and of the wide inputs, pictures with their borders; None where there are none."""
    parts: dict[str, list[Tensor]] = {"narrow_input": [], "wide_input": []}
    for use in program.inputs:
        size = use.placed.buffer.size
        if use.index == "dense":
            x = torch.zeros(samples, size) if dense is None else dense.reshape(samples, size)
        else:
            pad_y, pad_x = use.padding
            x = args[use.index].to(torch.float32)
            x = F.pad(x, (pad_x, pad_x, pad_y, pad_y)) if use.padding != (0, 0) else x
            x = x.permute(0, *(d + 1 for d in order_of(use.placed))).reshape(samples, size)
        parts[use.placed.buffer.space].append(x)
    narrow, wide = (None if not some else some[0].contiguous() if len(some) == 1 else torch.cat(some, dim=1)
                    for some in parts.values())
    return narrow, wide
