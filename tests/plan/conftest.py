"""What the tests of the plan share: capture a model, and hold its graph against the model in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan import Graph, capture, reference
from optprune_fast.plan.model import logits, state_of

Captured = Callable[..., Graph]


def in_float64(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def assert_same(graph: Graph, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any],
                masks: Mapping[str, Tensor] | None = None) -> None:
    """The graph's formulas in float64 give what the model gives in float64, with these masks."""
    double = deepcopy(model).double().eval()
    state = state_of(double)
    args = tuple(map(in_float64, args))
    kwargs = {key: in_float64(value) for key, value in kwargs.items()}
    kept = {name: state[name] * mask for name, mask in (masks or {}).items()}
    with torch.no_grad():
        wanted = logits(functional_call(double, {**state, **kept}, args, kwargs))
    found = reference.run(graph, state, args, kwargs, masks)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10, equal_nan=True)


@pytest.fixture
def captured() -> Captured:
    """Capture a model and check the graph: on the samples it was captured with, on five others, and under a mask."""

    def run(model: nn.Module, *args: Any, layout: MaskLayout | None = None, **kwargs: Any) -> Graph:
        layout = MaskLayout.of(model) if layout is None else layout
        graph = capture(model, args, kwargs, layout)
        draw = torch.Generator().manual_seed(1)
        masks = {layer.name: torch.rand(layer.shape, generator=draw) < 0.5 for layer in layout}
        assert_same(graph, model, args, kwargs)
        assert_same(graph, model, *_others(args, kwargs, draw), masks)
        return graph

    return run


def _others(args: tuple[Any, ...], kwargs: Mapping[str, Any],
            draw: torch.Generator) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Five other samples: random numbers, and the same tokens in another order."""
    def other(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if not value.is_floating_point():
            return value[torch.randint(len(value), (5,), generator=draw)]
        return torch.randn(5, *value.shape[1:], generator=draw)

    return tuple(map(other, args)), {key: other(value) for key, value in kwargs.items()}


class After(nn.Module):
    """A linear layer on the last dimension, then a function of its output."""

    def __init__(self, size: int, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fc = nn.Linear(size, size)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.fc(x))


@pytest.fixture
def after(captured: Captured) -> Callable[..., list[tuple[str, dict[str, Any]]]]:
    """Capture `function(linear(x))`, x of [3, *shape], check it, and say what comes after the linear layer."""

    def run(function: Callable[[Tensor], Tensor], *shape: int) -> list[tuple[str, dict[str, Any]]]:
        torch.manual_seed(0)
        graph = captured(After(shape[-1], function), torch.randn(3, *shape))
        kinds = [(node.op, node.attributes) for node in graph.nodes]
        assert [op for op, _ in kinds if op in ("input", "linear")] == ["input", "linear"]
        return [(op, at) for op, at in kinds if op not in ("input", "linear")]

    return run
