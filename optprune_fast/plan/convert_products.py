"""Reductions, softmax, products of two values, attention."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from optprune_fast.plan.builder import Builder
from optprune_fast.plan.call import Call, Converter
from optprune_fast.plan.exported import CannotCapture
from optprune_fast.plan.recipe import additive, number


def mean(call: Call) -> int | None:
    x, dims = call.x, call.dims(call.given.get("dim"))
    if x is None:
        return None
    value = call.build.emit("mean", (x,), call.shape, dims=dims, keepdim=bool(call["keepdim"]))
    if call.name == "mean":
        return value
    count = math.prod(call.build.shapes[x][dim] for dim in dims)
    return call.build.emit("scale", (value,), call.shape, factor=float(count), shift=0.0)


def softmax(call: Call) -> int | None:
    x = call.x
    return None if x is None else call.build.emit("softmax", (x,), call.shape, dim=call.dim(call["dim"]),
                                                  log="log" in call.name)


def product(call: Call) -> int | None:
    a: Any
    b: Any
    a, b = list(call.given.values())[:2]
    build = call.build
    ranks = [side.meta["val"].dim() for side in (a, b)]
    if ranks[0] < 2 or ranks[1] < 2:
        return None
    rank = call.node.meta["val"].dim()
    if ranks == [2, 2]:  # one row a sample
        x = build.value(a)
        if x is None or b in build.values or build.is_spread(b):
            return None
        (columns,) = build.shapes[x]
        row = build.reshape(x, (1, columns))
        value = build.emit("matmul", (row, build.constant(b, number)), (1, *call.shape))
        return build.reshape(value, call.shape)
    left, right = (build.operand(side, rank) for side in (a, b))
    return None if left is None or right is None else build.emit("matmul", (left, right), call.shape)


def attention(call: Call) -> int | None:
    build = call.build
    query, key, value = (build.value(call[role]) for role in ("query", "key", "value"))
    if call["dropout_p"]:
        raise CannotCapture("attention with dropout draws random numbers")
    if query is None or key is None or value is None or call.given.get("enable_gqa"):
        return None
    if not len(build.shapes[query]) == len(build.shapes[key]) == len(build.shapes[value]) >= 2:
        return None
    *outer, rows, width = build.shapes[query]
    columns = build.shapes[key][-2]
    scores = (*outer, rows, columns)
    order = tuple(range(len(outer)))
    turned = build.permute(key, (*order, len(outer) + 1, len(outer)))
    factor = 1 / math.sqrt(width) if call["scale"] is None else call["scale"]
    mixed = build.emit("matmul", (query, turned), scores)
    mixed = build.emit("scale", (mixed,), scores, factor=float(factor), shift=0.0)
    if call["attn_mask"] is not None:
        mask = build.operand(call["attn_mask"], len(scores) + 1, additive)
        if mask is None:
            return None
        mixed = build.emit("add", (mixed, mask), scores)
    if call["is_causal"]:
        mixed = build.emit("add", (mixed, _causal(build, rows, columns)), scores)
    mixed = build.emit("softmax", (mixed,), scores, dim=len(scores) - 1, log=False)
    return build.emit("matmul", (mixed, value), call.shape)


def _causal(build: Builder, rows: int, columns: int) -> int:
    like = next(name for name, tensor in build.state.items() if tensor.is_floating_point())

    def compute(state: dict[str, Tensor]) -> Tensor:
        look = torch.ones(rows, columns, dtype=torch.bool, device=state[like].device).tril()
        return additive(look, state[like].dtype)

    return build.emit("constant", (), (rows, columns), compute=compute, name="causal mask")


PRODUCTS: dict[str, Converter] = {
    "mean": mean, "sum": mean, "softmax": softmax, "_softmax": softmax, "log_softmax": softmax,
    "_log_softmax": softmax, "matmul": product, "mm": product, "bmm": product,
    "scaled_dot_product_attention": attention,
}
