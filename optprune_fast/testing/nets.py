"""Networks for tests: any function of named layers."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Net(nn.Module):
    """Layers by name, and a function of them and the inputs.

    >>> Net(lambda m, x: m["a"](x).relu(), a=nn.Linear(3, 2)).layers
    ModuleDict(
      (a): Linear(in_features=3, out_features=2, bias=True)
    )
    """

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.function = nn.ModuleDict(layers), function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self.layers, *inputs)
