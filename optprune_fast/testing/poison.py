"""Memory around tensors that must be neither read nor written.

    memory   [ poison … | element · poison · element · … | poison … ]      one buffer
                          ^ the tensor, with the strides it had

Poison is NaN in floating tensors and all ones in the others, so that a kernel that reads past an end gives a wrong
result and one that writes there is found out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

GUARD = 64  # elements before and after: a cache line of the widest kernel, and more


class Poisoned:
    """A tensor amid poison.

    tensor:  equal to the one given, with its strides (contiguous if elements share memory); poison itself if `empty`
    """

    def __init__(self, tensor: Tensor, *, empty: bool = False) -> None:
        shared = any(step == 0 and size > 1 for size, step in zip(tensor.shape, tensor.stride(), strict=True))
        source = tensor.detach().contiguous() if shared else tensor.detach()
        extent = sum((n - 1) * step for n, step in zip(source.shape, source.stride(), strict=True)) + 1
        self._buffer = source.new_empty(GUARD + (extent if source.numel() else 0) + GUARD)
        _bytes(self._buffer).fill_(0xFF)  # all ones are a NaN in every floating dtype
        self.tensor = self._buffer.as_strided(source.shape, source.stride(), GUARD)
        if not empty:
            self.tensor.copy_(source)
        self._before = _bytes(self._buffer).clone()  # bytes: a bool that is all ones would be cloned as a plain 1

    def assert_intact(self) -> None:
        """Raise an `AssertionError` if anything was written, to the tensor or around it."""
        assert torch.equal(_bytes(self._buffer), self._before), "an input or the memory around it was written"

    def assert_surroundings_intact(self) -> None:
        """Raise an `AssertionError` if anything was written around the tensor."""
        now, before = _bytes(self._buffer).clone(), self._before.clone()
        for memory in (now, before):
            memory.view(self._buffer.dtype).as_strided(self.tensor.shape, self.tensor.stride(), GUARD).zero_()
        assert torch.equal(now, before), "memory outside of an output was written"


class PoisonedAllocations(TorchFunctionMode):
    """While active, what Python code gets from `torch.empty` and its kin holds poison and lies amid poison.

    >>> with PoisonedAllocations() as allocations:
    ...     made = torch.empty(2)
    >>> made
    tensor([nan, nan])
    >>> allocations.count, allocations.assert_intact()
    (1, None)
    """

    _makers = (torch.empty, torch.empty_like, torch.empty_strided, Tensor.new_empty, Tensor.new_empty_strided)

    def __init__(self) -> None:
        super().__init__()
        self._made: list[Poisoned] = []

    @property
    def count(self) -> int:
        return len(self._made)

    def __torch_function__(self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in self._makers:
            return result
        poisoned = Poisoned(result, empty=True)
        self._made.append(poisoned)
        return poisoned.tensor

    def assert_intact(self) -> None:
        """Raise an `AssertionError` if anything was written outside of a tensor made meanwhile."""
        for poisoned in self._made:
            poisoned.assert_surroundings_intact()


def poison_all(value: Any) -> tuple[Any, list[Poisoned]]:
    """The same arguments with every tensor in them amid poison, and the guards to ask afterwards."""
    if isinstance(value, Tensor):
        poisoned = Poisoned(value)
        return poisoned.tensor, [poisoned]
    if isinstance(value, (tuple, list)):
        parts = [poison_all(v) for v in value]
        return type(value)(p for p, _ in parts), [g for _, guards in parts for g in guards]
    return value, []


def _bytes(buffer: Tensor) -> Tensor:
    return buffer.view(torch.uint8)
