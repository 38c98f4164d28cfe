"""What the sparse layers share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from optprune_fast.deploy.weight import SparseWeight


class SparseLayer(nn.Module):
    """A compressed weight and a bias.

    why:  one line on why the layer is sparse, for `explain`
    """

    weight: SparseWeight
    bias: nn.Parameter | None

    def __init__(self, weight: SparseWeight, bias: nn.Parameter | None, why: str) -> None:
        super().__init__()
        self.weight, self.why = weight, why
        self.register_parameter("bias", bias)

    def _arguments(self, x: Tensor) -> tuple[tuple[Any, ...], bool, bool]:
        """(shape, planes and bias, as the operations take them; whether nobody asks for gradients, a graph or vmap;
        whether the planes are rows). Read from the module's own dictionaries: a small layer takes less time than a few
        attributes."""
        weight, bias = self._modules["weight"], self._parameters["bias"]
        assert isinstance(weight, SparseWeight)
        plain = (type(x) is Tensor and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
                 and not torch._C._are_functorch_transforms_active())
        return (weight.shape, *weight._buffers.values(), bias), plain, weight.in_rows

    def to_dense(self) -> nn.Module:
        """The same layer as torch has it."""
        raise NotImplementedError

    def fill(self, dense: nn.Module) -> None:
        """Give a torch layer this layer's weight and bias."""
        dense.weight = nn.Parameter(self.weight.to_dense(), requires_grad=False)
        dense.register_parameter("bias", self.bias)
        dense.train(self.training)

    def extra_repr(self) -> str:
        return "" if self.bias is not None else "bias=False"

    @property
    def nbytes(self) -> int:
        """Bytes of the planes and the bias."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

