"""What runs a captured network: the native engine, Numba, or one of them with parts in torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor


class Runner(Protocol):
    """`turn` gives inputs in the form of this runner; the other functions take them."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of one sample."""

    def turn(self, args: Mapping[int | str, Tensor], samples: int, dense: Tensor | None) -> Any:
        """Inputs of `samples` samples, [B, …] each; dense: [B, …], outputs of the unpruned network."""

    def sums(self, words: Tensor, turned: Any, targets: Tensor | None, objective: str) -> Tensor:
        """float64 [P]: sum over samples of the objective. words: int64 [P, W]."""

    def outputs(self, words: Tensor, turned: Any) -> Tensor:
        """float32 [P, B, …]: the network's outputs."""
