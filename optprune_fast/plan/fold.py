"""Batch normalisation folded into the layer before it: the mask commutes with the scale of a row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from optprune_fast.plan.graph import Node


def norm_scale_shift(node: Node, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """float64 [O], [O]: batch normalisation as `x * scale + shift`."""
    mean, variance = state[node.tensors["norm_mean"]].double(), state[node.tensors["norm_var"]].double()
    scale = (variance + node.attributes["eps"]).rsqrt()
    if "norm_weight" in node.tensors:
        scale = scale * state[node.tensors["norm_weight"]].double()
    shift = -mean * scale
    if "norm_bias" in node.tensors:
        shift = shift + state[node.tensors["norm_bias"]].double()
    return scale, shift


def folded(node: Node, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """(weight [rows, columns], bias [rows] or None) of a linear layer or a convolution, float32.

    The product is formed in float64 and rounded once.
    """
    weight = state[node.tensors["weight"]]
    matrix = weight.reshape(weight.shape[0], -1)
    bias = state[node.tensors["bias"]] if "bias" in node.tensors else None
    if "norm_mean" not in node.tensors:
        return matrix.float().contiguous(), None if bias is None else bias.float().contiguous()
    scale, shift = norm_scale_shift(node, state)
    total = shift if bias is None else shift + bias.double() * scale
    return (matrix.double() * scale[:, None]).to(torch.float32).contiguous(), total.to(torch.float32).contiguous()
