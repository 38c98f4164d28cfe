"""How a pruned layer is held: by bytes, or by what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optprune_fast.deploy.shipped import BATCHES, CONV, LINEAR, SHORT_FLOATS
from optprune_fast.deploy.weight import smaller_coded
from optprune_fast.ops.slices import tile_count
from optprune_fast.ops.words import word_count
from optprune_fast.runtime import native
from optprune_fast.runtime.errors import message

PREFERENCES = ("speed", "memory")
MARGIN = 1.1  # a prediction may be off by so much


@dataclass(frozen=True)
class Choice:
    """format: "bitmask", "index" or "dense"; why: one line."""

    format: str
    why: str


def check_prefer(where: str, prefer: str) -> None:
    if prefer not in PREFERENCES:
        raise ValueError(message(where, f"prefer must be one of {', '.join(PREFERENCES)}", prefer=prefer))


def choose(module: nn.Module, like: Tensor, kept: int, prefer: str, *, device: torch.device | None = None,
           refusal: str | None = None) -> Choice:
    """How to hold a weight of `kept` weights that `module` uses.

    like:     has its shape and dtype
    device:   where it will be; None: where `like` is
    refusal:  why it cannot be compressed at all
    """
    if refusal is not None:
        return Choice("dense", refusal)
    if like.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        return Choice("dense", f"{str(like.dtype).removeprefix('torch.')} has no compressed form")
    return _by_bytes(like, kept) if prefer == "memory" else _by_speed(module, like, kept, device or like.device)


def _by_bytes(like: Tensor, kept: int) -> Choice:
    rows, columns = like.shape[0], math.prod(like.shape[1:])
    listed = kept * (1 + like.element_size()) + 3 * rows * tile_count(columns)
    words = kept * like.element_size() + 8 * rows * word_count(columns) + rows * tile_count(columns)
    if min(listed, words) >= like.nbytes:
        return Choice("dense", "compressed it would be no smaller")
    return Choice("bitmask" if smaller_coded(rows, columns, kept) else "index", "smallest")


def _by_speed(module: nn.Module, like: Tensor, kept: int, device: torch.device) -> Choice:
    if device.type != "cpu":
        return Choice("dense", f"no kernel for {device.type}")
    if native.missing("sparse_linear") is not None:
        return Choice("dense", "no compiled kernels here")
    if like.dtype == torch.float64:
        return Choice("dense", "no kernel for float64")
    if native.isa() not in LINEAR:
        return Choice("dense", f"nothing was measured on {native.isa()}")
    if like.dtype != torch.float32 and native.isa() not in SHORT_FLOATS:
        return Choice("dense", f"{native.isa()} may have units for 16-bit types, which are faster")
    return _linear(like, kept) if isinstance(module, nn.Linear) else _convolution(module, like, kept)


def _linear(like: Tensor, kept: int) -> Choice:
    cost, (rows, columns) = LINEAR[native.isa()], like.shape
    times = {batch: cost.dense(rows * columns, batch) / max(1.0, cost.sparse(rows, columns, kept, batch))
             for batch in BATCHES}
    worst = min(times, key=lambda batch: times[batch])
    said = f"{times[worst]:.1f} times as fast as dense at batch {worst}, by what was measured"
    return Choice("index", f"at least {said}") if times[worst] >= MARGIN else Choice("dense", f"sparse would be {said}")


def _convolution(module: nn.Module, like: Tensor, kept: int) -> Choice:
    rule, sparsity = CONV[native.isa()], 1 - kept / max(1, like.numel())
    if getattr(module, "groups", 1) != 1:
        return Choice("dense", "dense is faster with groups")
    if math.prod(like.shape[1:]) < rule.columns:
        return Choice("dense", f"dense is faster below {rule.columns} inputs of an output")
    strides: tuple[int, ...] = module.stride  # type: ignore[assignment]
    least = rule.unit_stride if max(strides) == 1 else rule.any_stride
    if least == 1:
        return Choice("dense", "dense is faster with strides")
    if sparsity < least:
        return Choice("dense", f"dense is faster below {least:.0%} sparsity, by what was measured")
    return Choice("index", f"faster from {least:.0%} sparsity on, by what was measured")
