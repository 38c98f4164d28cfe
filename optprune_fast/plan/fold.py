"""Batch normalisation, and a scale of the outputs, folded into the layer before: the mask commutes with both."""

from __future__ import annotations

from collections.abc import Mapping

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
    factor = node.attributes.get("factor", 1.0)
    if "norm_mean" in node.tensors:
        scale, shift = norm_scale_shift(node, state)
        matrix, bias = matrix.double() * scale[:, None], shift if bias is None else shift + bias.double() * scale
    if factor != 1:
        matrix, bias = matrix.double() * factor, None if bias is None else bias.double() * factor
    return matrix.float().contiguous(), None if bias is None else bias.float().contiguous()
