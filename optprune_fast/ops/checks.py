"""Checks that operations share; they look at shapes and types alone, so fake tensors pass too."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.ops.slices import BAND, Slices, tile_count
from optprune_fast.ops.words import word_count
from optprune_fast.runtime.errors import message


def require(holds: bool, where: str, rule: str, way_out: str = "", **arguments: object) -> None:
    """Raise a `ValueError` that teaches unless `holds`."""
    if not holds:
        raise ValueError(message(where, rule, way_out, **arguments))


def check_masked(where: str, x: Tensor, weight: Tensor, words: Tensor) -> None:
    """The rules that `masked_linear` and `masked_conv2d` share: types, devices, the shape of the words."""
    seen = {"x": x, "weight": weight, "words": words}
    if words.dtype != torch.int64:
        raise TypeError(message(where, "words must be int64 bit patterns", "PackedMasks.words has them", **seen))
    if not x.dtype.is_floating_point or x.dtype != weight.dtype:
        raise TypeError(message(where, "x and weight must have one floating dtype", "try x.to(weight.dtype)", **seen))
    require(x.device == weight.device == words.device, where, "x, weight and words must be on one device",
            "move them with .to(device)", **seen)
    rows, columns = weight.shape[0], weight[0].numel() if weight.shape[0] else weight.shape[1:].numel()
    require(words.dim() == 3 and words.shape[1:] == (rows, word_count(columns)), where,
            f"words must be [P, {rows}, {word_count(columns)}] for this weight",
            "PackedMasks.layer_words(name) gives them so", **seen)


def check_sparse(where: str, x: Tensor, rows: int, columns: int, groups: int, slices: Slices,
                 bias: Tensor | None) -> None:
    """The rules that `sparse_linear` and `sparse_conv2d` share: types, devices and sizes of the planes."""
    values, places, counts, order, starts = slices
    seen = {"x": x, **slices._asdict(), **({} if bias is None else {"bias": bias})}
    if not x.dtype.is_floating_point or x.dtype != values.dtype or (bias is not None and bias.dtype != x.dtype):
        raise TypeError(message(where, "x, values and bias must have one floating dtype", "try x.to(values.dtype)",
                                **seen))
    if places.dtype not in (torch.uint8, torch.int64) or (counts.dtype, order.dtype, starts.dtype) != (
            torch.int16, torch.uint8, torch.int64):
        raise TypeError(message(where, "places must be uint8 or int64, counts int16, rows uint8 and starts int64",
                                "to_slices makes them", **seen))
    require(all(tensor.device == x.device for tensor in seen.values()), where, "all tensors must be on one device",
            "move them with .to(device)", **seen)
    tiles, chunks = tile_count(columns), groups * -(-(rows // groups) // BAND) * tile_count(columns)
    expected = {"values": (values.numel(),), "rows": (tiles * rows,), "starts": (chunks + 1,),
                "places": (rows * word_count(columns) if slices.coded else values.numel(),),
                "counts": (0 if slices.coded else tiles * rows,)}
    for name, size in expected.items():
        require(tuple(seen[name].shape) == size, where,
                f"{name} must be {list(size)} for a weight [{rows}, {columns}]", "to_slices makes them", **seen)
    require(bias is None or tuple(bias.shape) == (rows,), where, f"bias must be [{rows}]", **seen)
