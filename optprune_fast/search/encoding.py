"""A strategy's state as JSON and named tensors, and back, bit for bit: no pickle, so a file cannot run code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import message

_PLAIN = (bool, int, float, str)


def encode(value: Any, tensors: dict[str, Tensor], name: str = "state") -> Any:
    """JSON of a value; its tensors go into `tensors`, by their place.

    Raises `TypeError` that names the place of a value that cannot be kept.

    >>> tensors = {}
    >>> encode({"step": 3, "scores": torch.ones(2)}, tensors)
    {'dict': [['step', 3], ['scores', {'tensor': 'state.scores', 'device': 'cpu'}]]}
    >>> list(tensors)
    ['state.scores']
    """
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [encode(one, tensors, f"{name}.{place}") for place, one in enumerate(value)]}
    if isinstance(value, dict) and all(type(key) in _PLAIN for key in value):
        return {"dict": [[key, encode(one, tensors, f"{name}.{key}")] for key, one in value.items()]}
    if isinstance(value, PackedMasks):
        tensors[name] = value.words.cpu()
        return {"masks": name, "device": str(value.device)}
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name, "device": str(value.device)}
    if isinstance(value, torch.Generator):
        tensors[name] = value.get_state()
        return {"generator": name, "device": str(value.device)}
    raise TypeError(message("journal", f"{name} is a {type(value).__name__}, which a journal cannot hold",
                            "keep tensors, masks, generators, numbers, texts, and lists, tuples and dicts of these, or "
                            "name it in the strategy's `derived` and make it in `start`"))


def decode(value: Any, tensors: dict[str, Tensor], layout: MaskLayout) -> Any:
    """What was encoded; masks are of `layout`."""
    if not isinstance(value, dict):
        return value
    (kind, content), *rest = value.items()
    if kind in ("list", "tuple"):
        values = [decode(one, tensors, layout) for one in content]
        return tuple(values) if kind == "tuple" else values
    if kind == "dict":
        return {key: decode(one, tensors, layout) for key, one in content}
    tensor, device = tensors[content], dict(rest)["device"]
    if kind == "generator":
        generator = torch.Generator(device)
        generator.set_state(tensor)
        return generator
    return PackedMasks(layout, tensor.to(device)) if kind == "masks" else tensor.to(device)
