"""Registration of our operators with PyTorch, so that `vmap`, `autograd`, `compile` and `export` see them.

`define`/`impl` and not the `custom_op` decorator: 2.1-2.8 times cheaper per call (docs/DESIGN.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NAMESPACE = "optprune_fast"
_library = torch.library.Library(NAMESPACE, "DEF")


def register(name: str, arguments: str, *, kernel: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Define `optprune_fast::<name>` and return its overload, bound once.

    kernel:  runs on real tensors, CPU and CUDA; it calls the dispatcher inside
    fake:    the same checks on shapes alone, and an empty result
    """
    _library.define(f"{name}{arguments}")
    for key in ("CPU", "CUDA"):
        _library.impl(name, kernel, key)
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def register_backward(name: str, setup: Callable[..., None], backward: Callable[..., Any]) -> None:
    """Give `optprune_fast::<name>` a gradient."""
    torch.library.register_autograd(f"{NAMESPACE}::{name}", backward, setup_context=setup, lib=_library)


def register_batching(name: str, operator: Any, candidate_dims: int) -> None:
    """Give `optprune_fast::<name>(x, weight, words, …)` a batching rule that folds a `vmap` axis into candidates.

    candidate_dims: dimensions of an `x` that has a candidate axis; one fewer means that candidates share it.
    """

    def rule(info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, words: Tensor, *rest: Any,
             **options: Any) -> tuple[Tensor, int]:
        x_dim, weight_dim, words_dim = in_dims[:3]
        size: int = info.batch_size
        if weight_dim is not None:
            return _one_by_one(operator, size, in_dims[:3], (x, weight, words), rest, options), 0
        words = words.expand(size, *words.shape) if words_dim is None else words.movedim(words_dim, 0)
        candidates = words.shape[1]
        words = words.reshape(size * candidates, *words.shape[2:])
        if x_dim is not None:
            x = x.movedim(x_dim, 0)
            if x.dim() == candidate_dims:  # the axis of vmap came on top of a shared x
                x = x.unsqueeze(1).expand(size, candidates, *x.shape[1:])
            x = x.reshape(size * candidates, *x.shape[2:])
        elif x.dim() == candidate_dims:
            x = x.expand(size, *x.shape).reshape(size * candidates, *x.shape[1:])
        out = operator(x, weight, words, *rest, **options)
        return out.reshape(size, candidates, *out.shape[1:]), 0

    torch.library.register_vmap(f"{NAMESPACE}::{name}", rule, lib=_library)


def register_sample_batching(name: str, operator: Any) -> None:
    """Give `optprune_fast::<name>(x, shape, planes…)` a batching rule: a `vmap` axis of x, [B, …], is more samples."""

    def rule(info: Any, in_dims: tuple[Any, ...], x: Tensor, *rest: Any, **options: Any) -> tuple[Tensor, int]:
        size: int = info.batch_size
        if any(isinstance(dim, int) for dim in in_dims[1:]):
            dims = tuple(dim if isinstance(dim, int) else None for dim in in_dims)
            return torch.stack([operator(*(value if dim is None else value.select(dim, i) for value, dim in
                                           zip((x, *rest), dims, strict=True)), **options) for i in range(size)]), 0
        x = x.movedim(in_dims[0], 0)
        if x.dim() == 2:  # one sample, [I]
            return operator(x, *rest, **options), 0
        return operator(x.flatten(0, 1), *rest, **options).unflatten(0, (size, x.shape[1])), 0

    torch.library.register_vmap(f"{NAMESPACE}::{name}", rule, lib=_library)


def _one_by_one(operator: Any, size: int, dims: tuple[int | None, ...], tensors: tuple[Tensor, ...],
                rest: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
    """A batch of *weights* has nothing in common to fold: one call each."""
    pick = [t if d is None else t.movedim(d, 0) for t, d in zip(tensors, dims, strict=True)]
    return torch.stack([
        operator(*(t if d is None else t[i] for t, d in zip(pick, dims, strict=True)), *rest, **options)
        for i in range(size)
    ])
