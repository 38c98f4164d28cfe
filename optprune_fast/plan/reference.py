"""What a graph means: each node as a plain torch formula, in any float dtype. The oracle of the native engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from optprune_fast.plan.graph import Graph, Node
from optprune_fast.plan.recipe import float_dtype, raw

State = Mapping[str, Tensor]


def run(graph: Graph, state: State, args: tuple[Any, ...], kwargs: Mapping[str, Any],
        masks: State | None = None) -> Tensor:
    """[B, …]: the output of the graph.

    state:         parameters and buffers by name; their float dtype is that of the computation
    args, kwargs:  what the model would be called with
    masks:         weight name -> bool tensor of its shape: what is kept; weights not named are whole
    """
    return values(graph, state, args, kwargs, masks)[graph.output]


def values(graph: Graph, state: State, args: tuple[Any, ...], kwargs: Mapping[str, Any],
           masks: State | None = None, constants: Mapping[int, Tensor] | None = None) -> dict[int, Tensor]:
    """Value id -> [B, …], of constants […].

    constants:  `graph.constants(state)`, where the caller has them already
    """
    kept = {name: state[name] * mask for name, mask in (masks or {}).items()}
    effective, dtype = {**state, **kept}, float_dtype(state)
    given: dict[int | str, Any] = dict(enumerate(args))
    given.update(kwargs.items())
    constants = graph.constants(state) if constants is None else constants
    out: dict[int, Tensor] = dict(constants)
    batch = 1
    with torch.no_grad():
        for node in graph.nodes:
            if node.op == "input":
                out[node.output] = raw(given[node.attributes["index"]], dtype)
                batch = len(out[node.output])
            elif node.op == "torch":
                out[node.output] = node.attributes["call"](*(out[i] for i in node.inputs))
            elif node.op != "constant":
                inputs = [out[i].expand(batch, *out[i].shape) if i in constants else out[i] for i in node.inputs]
                out[node.output] = FORMULAS[node.op](node, inputs, effective, (batch, *graph.shapes[node.output]))
    return out


def normalised(x: Tensor, node: Node, state: State) -> Tensor:
    """Batch normalisation over dimension 1, if the node has one."""
    if "norm_mean" not in node.tensors:
        return x
    mean, variance, weight, bias = (state[node.tensors[role]].reshape(-1, *(1 for _ in x.shape[2:]))
                                    if role in node.tensors else None
                                    for role in ("norm_mean", "norm_var", "norm_weight", "norm_bias"))
    assert mean is not None
    assert variance is not None
    x = (x - mean) / (variance + node.attributes["eps"]).sqrt()
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _tensor(node: Node, role: str, state: State) -> Tensor | None:
    return state[node.tensors[role]] if role in node.tensors else None


def _linear(node: Node, x: list[Tensor], state: State, shape: tuple[int, ...]) -> Tensor:
    out = F.linear(x[0], state[node.tensors["weight"]], _tensor(node, "bias", state))
    out = normalised(out, node, state)
    return out * node.attributes["factor"] if "factor" in node.attributes else out


def _conv2d(node: Node, x: list[Tensor], state: State, shape: tuple[int, ...]) -> Tensor:
    weight, at = state[node.tensors["weight"]], node.attributes
    weight = weight.unsqueeze(2) if weight.dim() == 3 else weight
    out = F.conv2d(x[0], weight, _tensor(node, "bias", state), at["stride"], at["padding"], at["dilation"],
                   at["groups"])
    return normalised(out, node, state)


def _activation(node: Node, x: list[Tensor], state: State, shape: tuple[int, ...]) -> Tensor:
    return ACTIVATIONS[node.attributes["kind"]](x[0], *node.attributes["parameters"])


def _aligned(x: list[Tensor], rank: int) -> list[Tensor]:
    """[B, …] each, with ones after the batch where a tensor has fewer than `rank` dimensions."""
    return [t.reshape(t.shape[0], *(1,) * (rank - t.dim()), *t.shape[1:]) for t in x]


def _pairwise(combine: Callable[[Tensor, Tensor], Tensor]) -> Formula:
    def formula(node: Node, x: list[Tensor], state: State, shape: tuple[int, ...]) -> Tensor:
        a, b = _aligned(x, len(shape))
        return combine(a, b)
    return formula


def _max_pool(node: Node, x: list[Tensor], state: State, shape: tuple[int, ...]) -> Tensor:
    at = node.attributes
    return F.max_pool2d(x[0], at["kernel"], at["stride"], at["padding"])


def _avg_pool(node: Node, x: list[Tensor], state: State, shape: tuple[int, ...]) -> Tensor:
    at = node.attributes
    return F.avg_pool2d(x[0], at["kernel"], at["stride"], at["padding"], count_include_pad=at["count_include_pad"])


def _mean(node: Node, x: list[Tensor], state: State, shape: tuple[int, ...]) -> Tensor:
    return x[0].mean([d + 1 for d in node.attributes["dims"]], keepdim=node.attributes["keepdim"])


def _softmax(node: Node, x: list[Tensor], state: State, shape: tuple[int, ...]) -> Tensor:
    return (F.log_softmax if node.attributes["log"] else F.softmax)(x[0], dim=node.attributes["dim"] + 1)


def _layer_norm(node: Node, x: list[Tensor], state: State, shape: tuple[int, ...]) -> Tensor:
    return F.layer_norm(x[0], shape[-node.attributes["dims"]:], _tensor(node, "weight", state),
                        _tensor(node, "bias", state), node.attributes["eps"])


def _slice(node: Node, x: list[Tensor], state: State, shape: tuple[int, ...]) -> Tensor:
    at = node.attributes
    last = at["start"] + (at["length"] - 1) * at["step"] + 1
    kept = torch.arange(at["start"], last, at["step"], device=x[0].device)
    return x[0].index_select(at["dim"] + 1, kept)


Formula = Callable[[Node, list[Tensor], State, "tuple[int, ...]"], Tensor]
ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "relu": F.relu, "relu6": F.relu6, "leaky_relu": F.leaky_relu, "elu": F.elu, "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu, "sigmoid": torch.sigmoid,
    "tanh": torch.tanh, "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid, "hardtanh": torch.clamp,
}
FORMULAS: dict[str, Formula] = {
    "linear": _linear, "conv2d": _conv2d, "activation": _activation, "max_pool": _max_pool, "avg_pool": _avg_pool,
    "mean": _mean, "softmax": _softmax, "layer_norm": _layer_norm, "slice": _slice,
    "affine": lambda node, x, state, shape: normalised(x[0], node, state),
    "add": _pairwise(torch.add), "sub": _pairwise(torch.sub), "mul": _pairwise(torch.mul),
    "matmul": _pairwise(torch.matmul),
    "scale": lambda node, x, state, shape: x[0] * node.attributes["factor"] + node.attributes["shift"],
    "concat": lambda node, x, state, shape: torch.cat(x, node.attributes["dim"] + 1),
    "reshape": lambda node, x, state, shape: x[0].reshape(shape),
    "permute": lambda node, x, state, shape: x[0].permute(0, *(d + 1 for d in node.attributes["dims"])),
    "embedding": lambda node, x, state, shape: F.embedding(x[0], state[node.tensors["weight"]]),
}
