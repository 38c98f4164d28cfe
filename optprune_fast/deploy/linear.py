"""Linear layers on compressed weights."""

from __future__ import annotations

from torch import Tensor, nn

from optprune_fast.deploy.layer import SparseLayer
from optprune_fast.deploy.weight import SparseWeight
from optprune_fast.ops import rows_linear as by_rows
from optprune_fast.ops import sparse_linear as by_slices


class SparseLinear(SparseLayer):
    """`nn.Linear` on kept weights alone.

    weight:  a `SparseWeight` [out_features, in_features]
    bias:    a parameter, or None

    >>> import torch
    >>> from optprune_fast.ops.words import pack
    >>> weight = SparseWeight.of(pack(torch.tensor([[True, False]])), torch.tensor([2.0]), [1, 2])
    >>> SparseLinear(weight)(torch.tensor([[3.0, 4.0]]))
    tensor([[6.]])
    """

    def __init__(self, weight: SparseWeight, bias: nn.Parameter | None = None, why: str = "") -> None:
        super().__init__(weight, bias, why)
        self.out_features, self.in_features = weight.shape

    def forward(self, x: Tensor) -> Tensor:
        arguments, plain, in_rows = self._arguments(x)
        if in_rows:
            return by_rows.serve(x, *arguments) if plain else by_rows.rows_linear(x, *arguments)
        return by_slices.serve(x, *arguments) if plain else by_slices.sparse_linear(x, *arguments)

    def to_dense(self) -> nn.Linear:
        """The same layer as torch has it."""
        out = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        self.fill(out)
        return out

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, {super().extra_repr()}"
