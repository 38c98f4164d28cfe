"""What a model is called like and returns: eval mode for a while, and the one tensor that counts of its output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn

from optprune_fast.runtime.errors import message


def logits(output: Any) -> Tensor:
    """The tensor of a model's output: itself, `.logits`, `["logits"]`, or the first of a tuple."""
    if isinstance(output, Mapping):
        output = output.get("logits")
    elif not isinstance(output, Tensor):
        output = getattr(output, "logits", output[0] if isinstance(output, (tuple, list)) and output else None)
    if not isinstance(output, Tensor):
        raise TypeError(message("Evaluator", "the model must return a tensor, an object with .logits, or a tuple that "
                                "starts with a tensor", output=type(output).__name__))
    return output


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode; afterwards every module has its mode and its own tensors again.

    `functional_call` leaves what it was given in a module that is registered under two names.
    """
    training = [module for module in model.modules() if module.training]
    tensors = [(held, dict(held)) for module in model.modules() for held in (module._parameters, module._buffers)]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for held, own in tensors:
            if any(held.get(name) is not tensor for name, tensor in own.items()):
                cast("dict[str, Tensor | None]", held).update(own)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, tied ones once, detached."""
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}
