"""Operations on each number by itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from optprune_fast.plan.call import Call, Converter, is_number, is_tensor


def _activation(call: Call, kind: str, *parameters: float) -> int | None:
    x = call.x
    return None if x is None else call.build.emit("activation", (x,), call.shape, kind=kind,
                                                  parameters=tuple(float(p) for p in parameters))


def plain(call: Call) -> int | None:
    return _activation(call, call.name)


def gelu(call: Call) -> int | None:
    return _activation(call, "gelu_tanh" if call["approximate"] == "tanh" else "gelu")


def leaky_relu(call: Call) -> int | None:
    return _activation(call, "leaky_relu", call["negative_slope"])


def elu(call: Call) -> int | None:
    if (call["scale"], call["input_scale"]) != (1, 1):
        return None
    return _activation(call, "elu", call["alpha"])


def selu(call: Call) -> int | None:
    value = _activation(call, "elu", 1.6732632423543772848170429916717)
    return None if value is None else _scale(call, value, 1.0507009873554804934193349852946)


def hardtanh(call: Call) -> int | None:
    return _activation(call, "hardtanh", call["min_val"], call["max_val"])


def clamp(call: Call) -> int | None:
    low, high = call.given.get("min"), call.given.get("max")
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return _activation(call, "hardtanh", low, high) if is_number(low) and is_number(high) else None


def _scale(call: Call, x: int, factor: float, shift: float = 0.0) -> int:
    build = call.build
    return build.emit("scale", (x,), build.shapes[x], factor=float(factor), shift=float(shift))


def _binary(call: Call, op: str) -> int | None:
    sides = [call.build.operand(call[name], call.node.meta["val"].dim()) for name in ("self", "other")]
    alpha = call.given.get("alpha", 1)
    if sides[0] is None or sides[1] is None or not is_number(alpha):
        return None
    b = sides[1] if alpha == 1 else _scale(call, sides[1], alpha)
    return call.build.emit(op, (sides[0], b), call.shape)


def add(call: Call) -> int | None:
    return _shifted(call, 1.0) if is_number(call["other"]) else _binary(call, "add")


def sub(call: Call) -> int | None:
    return _shifted(call, -1.0) if is_number(call["other"]) else _binary(call, "sub")


def _shifted(call: Call, sign: float) -> int | None:
    x = call.x
    return None if x is None else _scale(call, x, 1.0, sign * call["other"] * call.given.get("alpha", 1))


def rsub(call: Call) -> int | None:
    x = call.x
    return None if x is None or not is_number(call["other"]) else _scale(call, x, -call["alpha"], call["other"])


def mul(call: Call) -> int | None:
    x = call.x
    if not is_number(call["other"]):
        return _binary(call, "mul")
    return None if x is None else _scale(call, x, call["other"])


def div(call: Call) -> int | None:
    x = call.x
    if x is None or not is_number(call["other"]) or not call["other"] or call.given.get("rounding_mode"):
        return None
    return _scale(call, x, 1 / call["other"])


def neg(call: Call) -> int | None:
    x = call.x
    return None if x is None else _scale(call, x, -1.0)


def masked_fill(call: Call) -> int | None:
    """A constant mask and a number: the kept part, plus the number elsewhere."""
    build, fill, rank = call.build, call["value"], call.node.meta["val"].dim()
    x = call.x
    if x is None or call.rank != rank or not is_number(fill) or not is_tensor(call["mask"]) or math.isnan(fill):
        return None

    def filling(mask: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, fill)

    def keeping(mask: Tensor, dtype: torch.dtype) -> Tensor:
        return (~mask).to(dtype)

    if call["mask"] in build.values:
        return None
    if not math.isinf(fill):
        kept = build.operand(call["mask"], rank, keeping)
        if kept is None:
            return None
        x = build.emit("mul", (x, kept), call.shape)
    fills = build.operand(call["mask"], rank, filling)
    return None if fills is None else build.emit("add", (x, fills), call.shape)


POINTWISE: dict[str, Converter] = {
    **dict.fromkeys(("relu", "relu6", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid"), plain),
    "gelu": gelu, "leaky_relu": leaky_relu, "elu": elu, "selu": selu, "hardtanh": hardtanh, "clamp": clamp,
    "clamp_min": clamp, "clamp_max": clamp, "add": add, "sub": sub, "rsub": rsub, "mul": mul, "div": div, "neg": neg,
    "masked_fill": masked_fill,
}
