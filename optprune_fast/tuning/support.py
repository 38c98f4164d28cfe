"""A copy of a model whose pruned weights are zero, and stay so."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from optprune_fast.masks.layout import check_finite
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import message


class Support:
    """A copy of `model`, and which of its weights are pruned.

    model:   the copy; tied parameters are tied in it, too
    mask:    the one mask that holds now; `prune` puts another in its place
    pruned:  {name: bool like the weight}

    The kept weights are plain parameters with exact zeros beside them: what the forward pass sees is the effective
    weight, so every module works, whatever it does with its weights.
    """

    def __init__(self, where: str, model: nn.Module, mask: PackedMasks) -> None:
        if len(mask) != 1:
            raise ValueError(message(where, "one mask at a time", "mask[i] is the i-th of several", mask=mask))
        check_finite(mask.layout.weights_of(model))
        self.model = deepcopy(model)
        self.prune(mask)
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise ValueError(message(where, "no parameter is left to change: none has requires_grad",
                                     "model.requires_grad_() lets all of them change", model=type(model).__name__))

    def prune(self, mask: PackedMasks) -> None:
        """From now on this mask holds. A weight that comes back starts at zero."""
        parameters = dict(self.model.named_parameters())
        self.mask = mask
        self.weights = {layer.name: parameters[layer.name] for layer in mask.layout}
        self.pruned = {name: ~bits[0].to(self.weights[name].device) for name, bits in mask.to_dense().items()}
        self.clear_weights()

    def clear_weights(self) -> None:
        """Set the pruned weights to zero; filled, not multiplied, so that neither -0.0 nor NaN is left."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.masked_fill_(self.pruned[name], 0.0)

    def clear_gradients(self) -> None:
        """The pruned weights have no gradient, so neither momentum nor a second moment builds up for them."""
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.masked_fill_(self.pruned[name], 0.0)

    def finite(self) -> bool:
        """Whether every prunable weight is a number."""
        return all(bool(weight.isfinite().all()) for weight in self.weights.values())

    def state(self) -> dict[str, Tensor]:
        """A snapshot of all parameters and buffers."""
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
