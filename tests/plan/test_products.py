"""Reductions, softmax, products and attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F


@pytest.mark.parametrize(("function", "expected"), [
    (lambda x: x.mean((1, 2)), [("mean", {"dims": (0, 1), "keepdim": False})]),
    (lambda x: x.mean(-1, keepdim=True), [("mean", {"dims": (1,), "keepdim": True})]),
    (lambda x: x.sum(1), [("mean", {"dims": (0,), "keepdim": False}), ("scale", {"factor": 4.0, "shift": 0.0})]),
    (lambda x: x.softmax(1), [("softmax", {"dim": 0, "log": False})]),
    (lambda x: F.log_softmax(x, -1), [("softmax", {"dim": 1, "log": True})]),
    (lambda x: x @ x.mT, [("permute", {"dims": (1, 0)}), ("matmul", {})]),
    (lambda x: torch.bmm(x.mT, x), [("permute", {"dims": (1, 0)}), ("matmul", {})]),
])
def test_each_becomes_its_node(after, function, expected):
    assert after(function, 4, 6) == expected


def test_products_with_a_constant_matrix(after):
    matrix = torch.randn(6, 5)
    assert [op for op, _ in after(lambda x: x @ matrix.to(x.dtype), 4, 6)] == ["constant", "matmul"]
    assert [op for op, _ in after(lambda x: x @ matrix.to(x.dtype), 6)] == ["reshape", "constant", "matmul", "reshape"]
    assert [op for op, _ in after(lambda x: matrix.mT.to(x.dtype) @ x.mT, 4, 6)] == ["permute", "constant", "matmul"]


LOOK = torch.ones(4, 4, dtype=torch.bool).tril(1)
MIDDLE = ["permute", "matmul", "scale"]


@pytest.mark.parametrize(("arguments", "between"), [
    ({}, []), ({"is_causal": True}, ["constant", "add"]), ({"attn_mask": LOOK}, ["constant", "add"]),
    ({"attn_mask": torch.randn(1, 1, 4, 4)}, ["constant", "add"]), ({"scale": 0.3}, []),
])
def test_attention_in_its_parts(after, arguments, between):
    def attend(x):
        x = x.unflatten(-1, (2, 3)).transpose(1, 2)
        given = {k: v.to(x.dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v
                 for k, v in arguments.items()}
        return F.scaled_dot_product_attention(x, x.relu(), x.tanh(), **given)

    found = after(attend, 4, 6)
    assert [op for op, _ in found] == ["reshape", "permute", "activation", "activation", *MIDDLE, *between, "softmax",
                                       "matmul"]
    scale = next(at for op, at in found if op == "scale")
    assert scale["factor"] == pytest.approx(arguments.get("scale", 3**-0.5))
