"""Layers with weights: linear, convolution, normalisation, embedding."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from optprune_fast.plan.call import Call, Converter, pair
from optprune_fast.plan.exported import CannotCapture


def _tensors(call: Call, roles: dict[str, Any], *, prunable: str = "") -> dict[str, str] | None:
    """role -> name; None if one of them is not simply a parameter or buffer."""
    out = {}
    for role, node in roles.items():
        if node is None:
            continue
        name = call.build.parameter(node, prunable=role == prunable)
        if name is None:
            return None
        out[role] = name
    return out


def linear(call: Call) -> int | None:
    tensors = _tensors(call, {"weight": call["weight"], "bias": call["bias"]}, prunable="weight")
    x = call.x
    if tensors is None or x is None:
        return None
    value = call.build.emit("linear", (x,), call.shape, tensors)
    if len(call.shape) == 1:
        call.build.layers[call.node] = value
    return value


def convolution(call: Call) -> int | None:
    """conv1d is conv2d on pictures of one row."""
    one = call.name == "conv1d"
    x = call.x
    if x is None or call.rank != (3 if one else 4):
        return None
    dilation = pair(call["dilation"], one, 1)
    padding = _padding(call, one, dilation)
    tensors = None if padding is None else _tensors(call, {"weight": call["weight"], "bias": call["bias"]},
                                                    prunable="weight")
    if tensors is None:
        return None
    build, shape = call.build, call.shape
    if one:
        channels, length = build.shapes[x]
        x = build.reshape(x, (channels, 1, length))
    value = build.emit("conv2d", (x,), (shape[0], 1, shape[1]) if one else shape, tensors,
                       stride=pair(call["stride"], one, 1), padding=padding, dilation=dilation,
                       groups=call["groups"], kernel=pair(call["weight"].meta["val"].shape[2:], one, 1))
    build.layers[call.node] = value
    return build.reshape(value, shape)


def _padding(call: Call, one: bool, dilation: tuple[int, int]) -> tuple[int, int] | None:
    padding = call["padding"]
    if padding == "valid":
        return 0, 0
    if padding != "same":
        return pair(padding, one, 0)
    kernel = pair(call["weight"].meta["val"].shape[2:], one, 1)
    total = tuple(d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    return None if total[0] % 2 or total[1] % 2 else (total[0] // 2, total[1] // 2)


def batch_norm(call: Call) -> int | None:
    if call["training"]:
        raise CannotCapture("batch normalisation without running statistics mixes samples")
    tensors = _tensors(call, {"norm_weight": call["weight"], "norm_bias": call["bias"],
                              "norm_mean": call["running_mean"], "norm_var": call["running_var"]})
    x = call.x
    if tensors is None or x is None:
        return None
    build, before = call.build, call.source
    place = build.layers.get(before)
    if place is None or len(before.users) != 1:
        return build.emit("affine", (x,), call.shape, tensors, eps=call["eps"])
    layer = build.nodes[place]
    build.nodes[place] = replace(layer, tensors={**layer.tensors, **tensors},
                                 attributes={**layer.attributes, "eps": call["eps"]})
    return x


def layer_norm(call: Call) -> int | None:
    tensors = _tensors(call, {"weight": call["weight"], "bias": call["bias"]})
    x = call.x
    if tensors is None or x is None:
        return None
    return call.build.emit("layer_norm", (x,), call.shape, tensors, dims=len(call["normalized_shape"]),
                           eps=call["eps"])


def group_norm(call: Call) -> int | None:
    """A layer normalisation of each group, then the channels' own factors and shifts."""
    x, build, shape = call.x, call.build, call.shape
    tensors = _tensors(call, {"weight": call["weight"], "bias": call["bias"]})
    if tensors is None or x is None:
        return None
    group = (call["num_groups"], math.prod(shape) // call["num_groups"])
    value = build.reshape(x, group)
    value = build.reshape(build.emit("layer_norm", (value,), group, dims=1, eps=call["eps"]), shape)
    for role, op in (("weight", "mul"), ("bias", "add")):
        if role in tensors:
            channels = build.reshape(build.constant(call[role]), (shape[0], *(1 for _ in shape[1:])))
            value = build.emit(op, (value, channels), shape)
    return value


def embedding(call: Call) -> int | None:
    tensors = _tensors(call, {"weight": call["weight"]}, prunable="weight")
    x = call.build.value(call["indices"])
    if tensors is None or x is None:
        return None
    return call.build.emit("embedding", (x,), call.shape, tensors)


LAYERS: dict[str, Converter] = {"linear": linear, "conv1d": convolution, "conv2d": convolution,
                                "batch_norm": batch_norm, "layer_norm": layer_norm, "group_norm": group_norm}
