"""The kept weights as one row of numbers: what solvers work on."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.tuning.support import Support


class Kept:
    """The parameters that may change, as one float64 row of numbers; pruned weights are not among them.

    It holds the mask that `support` had when it was made.
    """

    def __init__(self, support: Support, names: list[str]) -> None:
        self.support = support
        self.parameters = {name: dict(support.model.named_parameters())[name] for name in names}
        self.places = {name: (~support.pruned[name] if name in support.pruned else
                              torch.ones_like(p, dtype=torch.bool)) for name, p in self.parameters.items()}

    def read(self) -> Tensor:
        """float64 [kept]: the parameters as they are."""
        return self.row({name: parameter.detach() for name, parameter in self.parameters.items()})

    def write(self, row: Tensor) -> None:
        """Set the parameters to a row, float64 [kept]; zero where they are pruned."""
        with torch.no_grad():
            for name, tensor in self.spread(row).items():
                self.parameters[name].copy_(tensor)

    def spread(self, row: Tensor, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """One tensor a parameter, zero where it is pruned, in its own dtype if no other is given."""
        out, start = {}, 0
        for name, place in self.places.items():
            count = int(place.sum())
            tensor = torch.zeros_like(self.parameters[name], dtype=dtype)
            tensor[place] = row[start:start + count].to(tensor.dtype)
            out[name], start = tensor, start + count
        return out

    def row(self, tensors: dict[str, Tensor]) -> Tensor:
        """float64 [kept]: what tensors shaped as the parameters hold where these are kept."""
        return torch.cat([tensors[name][place].double() for name, place in self.places.items()])
