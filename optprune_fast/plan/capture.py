"""A torch model becomes a small typed graph.

    model ──▶ torch.export ──▶ one converter a family of ATen operations ──▶ Graph ──▶ checked against the model
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan.aliases import Aliases
from optprune_fast.plan.builder import Builder
from optprune_fast.plan.call import Call, sample_shape
from optprune_fast.plan.check import check
from optprune_fast.plan.convert_layers import LAYERS, embedding
from optprune_fast.plan.convert_pointwise import POINTWISE
from optprune_fast.plan.convert_pool import POOL_OUTPUTS, POOLS
from optprune_fast.plan.convert_products import PRODUCTS
from optprune_fast.plan.convert_shape import SHAPES, SPLITS
from optprune_fast.plan.exported import CannotCapture, Exported, export, samples
from optprune_fast.plan.graph import Graph
from optprune_fast.plan.model import state_of
from optprune_fast.plan.recipe import float_dtype

# What computes with floats only, and what serves token indices as well.
COMPUTING = {**LAYERS, **POINTWISE, **POOLS, **PRODUCTS}
MOVING = {**SHAPES, "embedding": embedding}
OUTPUTS = {**SPLITS, **POOL_OUTPUTS}
INTEGERS = (torch.int64, torch.int32)


def capture(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], layout: MaskLayout) -> Graph:
    """The graph of a model in eval mode; the model stays as it is.

    args, kwargs:  what the model is called with; every tensor has one entry a sample. Whatever is no tensor is taken
                   as it is now, for good.
    layout:        its prunable weights, which only layers may use

    Raises `CannotCapture`, with the reason, where the model has no such graph: it decides by its data, mixes samples,
    draws random numbers, changes itself, or uses several float dtypes.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> [node.op for node in capture(net, (torch.zeros(3, 4),), {}, MaskLayout.of(net)).nodes]
    ['input', 'linear', 'activation']
    """
    state = state_of(model)
    dtypes = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    if len(dtypes) > 1:
        raise CannotCapture(f"the model mixes dtypes: {', '.join(sorted(map(str, dtypes)))}")
    tensors = samples(args, kwargs)
    graph = build(export(model, args, kwargs, tensors), layout, state)
    check(graph, model, state, _refilled(args, tensors), {k: tensors.get(k, v) for k, v in kwargs.items()})
    return graph


def _refilled(args: tuple[Any, ...], tensors: Mapping[int | str, Tensor]) -> tuple[Any, ...]:
    return tuple(tensors.get(index, value) for index, value in enumerate(args))


def build(exported: Exported, layout: MaskLayout, state: Mapping[str, Tensor]) -> Graph:
    """The graph of an exported model."""
    builder, aliases = Builder(exported, layout, state), Aliases(exported.graph)
    dtype = float_dtype(state)
    for node in exported.graph.nodes:
        if node in exported.inputs:
            _checked_dtype(node, dtype)
            builder.values[node] = builder.emit("input", (), sample_shape(node), index=exported.inputs[node])
            _note_integers(builder, node)
        elif node.op == "output":
            return _finish(builder, node.args[0][0])
        elif node.op == "get_attr" or (node.op != "placeholder" and not _is_operation(node)):
            raise CannotCapture(f"{node.target} is not a plain operation")
        elif node.op == "call_function":
            aliases.visit(node)
            if any(source in builder.values or source in builder.tuples for source in node.all_input_nodes):
                _convert(builder, node, dtype)
    raise AssertionError("an exported graph ends with its output")


def _is_operation(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) or node.target is operator.getitem or isinstance(
        node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool, int, float))


def _convert(builder: Builder, node: fx.Node, dtype: torch.dtype) -> None:
    """One operation on samples. What has no converter, or declines, is left to torch."""
    result = node.meta.get("val")
    if node.target is operator.getitem:
        source: Any
        pick: Any
        source, pick = node.args
        sample_shape(node)  # raises where this output is not one of samples
        builder.values[node] = builder.tuples[source](pick)
    elif isinstance(result, (tuple, list)):
        call = Call(builder, node)
        splitter = OUTPUTS.get(call.name)
        found = None if splitter is None else splitter(call)
        builder.tuples[node] = found or (lambda pick: builder.torch_call(
            node, tuple(result[pick].shape[1:]), pick))
        return
    elif isinstance(result, Tensor):
        shape = sample_shape(node)
        call = Call(builder, node)
        whole = any(builder.values.get(source) in builder.integers for source in node.all_input_nodes)
        converter = MOVING.get(call.name) or (None if whole else COMPUTING.get(call.name))
        value = None if converter is None else converter(call)
        builder.values[node] = builder.torch_call(node, shape) if value is None else value
    else:
        return  # assertions and sizes
    _checked_dtype(node, dtype)
    _note_integers(builder, node)


def _checked_dtype(node: fx.Node, dtype: torch.dtype) -> None:
    found = node.meta["val"].dtype
    if found != dtype and found not in INTEGERS:
        raise CannotCapture(f"{node.target} is {found} in a model of {dtype}")


def _note_integers(builder: Builder, node: fx.Node) -> None:
    if not node.meta["val"].is_floating_point():
        builder.integers.add(builder.values[node])


def _finish(builder: Builder, last: Any) -> Graph:
    output = builder.value(last)
    if output is None or output in builder.integers:
        raise CannotCapture("the output does not depend on the samples, or is not a floating number")
    needed = {output}
    for node in reversed(builder.nodes):
        if node.output in needed:
            needed.update(node.inputs)
    return Graph(tuple(node for node in builder.nodes if node.output in needed), output,
                 {value: shape for value, shape in builder.shapes.items() if value in needed},
                 frozenset(builder.integers & needed))
