"""Checks that the masked operations share; they look at shapes and types alone, so fake tensors pass too."""

from __future__ import annotations

import torch
from torch import Tensor

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
