"""How a pruned layer is held: by bytes, or by what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optprune_fast.deploy import gpu, two_four
from optprune_fast.deploy.shipped import BATCHES, CONV, LINEAR, SHORT_FLOATS
from optprune_fast.deploy.weight import smaller_coded
from optprune_fast.ops import rows_linear
from optprune_fast.ops.slices import tile_count
from optprune_fast.ops.words import word_count
from optprune_fast.runtime import native
from optprune_fast.runtime.errors import message

PREFERENCES = ("speed", "memory")
MARGIN = 1.1  # a prediction may be off by so much
GPU_MARGIN = 2.0  # bytes say what is possible; how much of it a kernel reaches, nobody measured


@dataclass(frozen=True)
class Choice:
    """format: "bitmask", "index", "two_four" (torch's, on a GPU) or "dense"; why: one line."""

    format: str
    why: str


def check_prefer(where: str, prefer: str) -> None:
    if prefer not in PREFERENCES:
        raise ValueError(message(where, f"prefer must be one of {', '.join(PREFERENCES)}", prefer=prefer))


def choose(module: nn.Module, like: Tensor, kept: int, prefer: str, *, device: torch.device | None = None,
           refusal: str | None = None, two_of_four: bool = False) -> Choice:
    """How to hold a weight of `kept` weights that `module` uses.

    like:     has its shape and dtype
    device:       where it will be; None: where `like` is
    refusal:      why it cannot be compressed at all
    two_of_four:  whether at most two in every four columns are kept
    """
    if refusal is not None:
        return Choice("dense", refusal)
    if like.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        return Choice("dense", f"{str(like.dtype).removeprefix('torch.')} has no compressed form")
    device = device or like.device
    sizes = _sizes(like, kept, device)
    if two_of_four and gpu.serves(device) and two_four.takes(module, like):
        sizes["two_four"] = two_four.nbytes(like)
    if prefer == "speed":
        return _by_bytes_read(module, like, sizes) if gpu.serves(device) else _by_speed(module, like, kept, device)
    smallest = min(sizes, key=lambda name: sizes[name])
    if sizes[smallest] >= like.nbytes:
        return Choice("dense", "compressed it would be no smaller")
    return Choice(smallest, "smallest")


def _sizes(like: Tensor, kept: int, device: torch.device) -> dict[str, int]:
    """Bytes of a weight in each layout of ours, the one for places that is smaller in general."""
    rows, columns, item = like.shape[0], math.prod(like.shape[1:]), like.element_size()
    coded = smaller_coded(rows, columns, kept)
    tiles = rows * tile_count(columns)
    places = 8 * rows * word_count(columns) + tiles if coded else kept + 3 * tiles
    size = gpu.nbytes(rows, columns, kept, item, coded=coded) if gpu.serves(device) else kept * item + places
    return {"bitmask" if coded else "index": size}


def _by_bytes_read(module: nn.Module, like: Tensor, sizes: dict[str, int]) -> Choice:
    """On a GPU, where nothing was measured: how many bytes fewer than a dense weight has."""
    if not isinstance(module, nn.Linear):
        return Choice("dense", "no kernel for convolutions on a GPU, where they multiply more than they read")
    if like.dtype == torch.float64:
        return Choice("dense", "no kernel for float64")
    reasons = {name: rows_linear.operation.missing(name) for name in ("cuda", "triton")}
    if None not in reasons.values():
        said = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return Choice("dense", f"no kernels for a GPU here: {said}")
    smallest = min(sizes, key=lambda name: sizes[name])
    times = like.nbytes / max(1, sizes[smallest])
    said = f"{times:.1f} times fewer bytes to read than dense; no time was measured on a GPU"
    return Choice(smallest, said) if times >= GPU_MARGIN else Choice("dense", f"only {said}")


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
