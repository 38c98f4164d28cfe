"""A graph proves itself before it is used: it gives what the model gives, and its torch parts mix no samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from optprune_fast.plan import reference
from optprune_fast.plan.exported import CannotCapture
from optprune_fast.plan.graph import Graph, Node
from optprune_fast.plan.model import eval_mode, logits


def check(graph: Graph, model: nn.Module, state: Mapping[str, Tensor], args: tuple[Any, ...],
          kwargs: dict[str, Any]) -> None:
    """Raise `CannotCapture` unless the graph does what the model does with these samples."""
    found = reference.values(graph, state, args, kwargs)
    for node in graph.nodes:
        if node.op == "torch":
            _check_samples_apart(node, [found[i] for i in node.inputs], found[node.output])
    copy = {name: tensor.clone() for name, tensor in state.items()}  # the model may write into its buffers
    with eval_mode(model), torch.no_grad():
        wanted = logits(functional_call(model, copy, args, kwargs))
    if not _agree(found[graph.output], wanted):
        raise CannotCapture("the captured graph gives other outputs than the model")


def _check_samples_apart(node: Node, inputs: list[Tensor], output: Tensor) -> None:
    """Each sample alone must give its row of the batch, for the values at hand and for random ones."""
    call, name = node.attributes["call"], node.attributes["name"]
    if output.shape[:1] != inputs[call.batched.index(True)].shape[:1]:
        raise CannotCapture(f"{name} changes the number of samples")
    draw = torch.Generator().manual_seed(0)
    random = [torch.randn(t.shape, generator=draw, dtype=torch.float64).to(t) if t.is_floating_point() and batched
              else t for t, batched in zip(inputs, call.batched, strict=True)]
    with torch.no_grad():
        for tensors in (inputs, random):
            whole = call(*tensors)
            for row in range(len(output)):
                one = call(*(t[row:row + 1] if b else t for t, b in zip(tensors, call.batched, strict=True)))
                if not _agree(one, whole[row:row + 1]):
                    raise CannotCapture(f"{name} mixes samples")


def _agree(a: Tensor, b: Tensor) -> bool:
    """Equal up to half of the digits of the dtype: rounding passes, another formula does not."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    finite = b[b.isfinite()]
    size = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(a, b, rtol=0, atol=math.sqrt(torch.finfo(a.dtype).eps) * size, equal_nan=True)
