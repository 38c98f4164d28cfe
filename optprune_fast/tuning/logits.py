"""A pruned network's logits, made as sure as they are right before it is trained.

What is left of a network that was pruned far has small logits, though its classes may be right: its sums have fewer
terms. Training would first make them larger, at the expense of all else; a number does it at once, and changes no
class.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from optprune_fast.engine.batches import Batch
from optprune_fast.engine.logit_scale import JUDGED, Part, best_scale
from optprune_fast.engine.objective import NAMED
from optprune_fast.tuning.loss import JUDGED_AT_ONCE, Loss

MOST = 100.0


def enlarge_logits(model: nn.Module, loss: Loss, batches: list[Batch]) -> float:
    """Multiply the last linear layer, in place, by what gives logits the least cross-entropy; returns the number.

    It is at least 1. It is 1, and nothing is done, where the objective is another, where the model does not end with a
    plain linear layer, or where that one runs more than once, is tied to another module or is not to be trained.
    """
    if loss.objective is not NAMED["cross_entropy"]:
        return 1.0
    last = _last_linear(model.eval(), batches[0].pick(slice(0, 2)).to(loss.device))
    if last is None or not _can_be_multiplied(last, model):
        return 1.0
    factor = best_scale(list(_outputs(model, batches, loss.device)), MOST)
    with torch.no_grad():
        for parameter in last.parameters(recurse=False):
            parameter.mul_(factor)
    return factor


def _last_linear(model: nn.Module, few: Batch) -> nn.Linear | None:
    """The layer that ran once, and whose output is the model's, or is what it has only another view of."""
    seen: dict[nn.Linear, list[tuple[Tensor, int]]] = {}

    def note(module: nn.Linear, inputs: object, output: Tensor) -> None:
        seen.setdefault(module, []).append((output, output._version))

    handles = [module.register_forward_hook(note) for module in model.modules() if isinstance(module, nn.Linear)]
    try:
        with torch.no_grad():
            outputs = model(*few.args, **few.kwargs)
    finally:
        for handle in handles:
            handle.remove()
    # A version that went up: something changed the output in place on the way.
    return next((layer for layer, [(own, version), *again] in seen.items() if not again
                 and own.data_ptr() == outputs.data_ptr() and own.numel() == outputs.numel()
                 and own._version == version), None)


def _can_be_multiplied(layer: nn.Linear, model: nn.Module) -> bool:
    """Whether its parameters are weight and bias themselves (a normalised weight is neither), its own, and trained."""
    parameters = dict(layer.named_parameters(recurse=False))
    if type(layer) is not nn.Linear or set(parameters) not in ({"weight"}, {"weight", "bias"}):
        return False
    users = sum(any(parameter is own for own in parameters.values())
                for _, parameter in model.named_parameters(remove_duplicate=False))
    return users == len(parameters) and all(parameter.requires_grad for parameter in parameters.values())


def _outputs(model: nn.Module, batches: list[Batch], device: torch.device) -> Iterator[Part]:
    """Of samples spread evenly: what a scale needs, since all of them are held at a time."""
    every = max(1, sum(batch.targets.numel() for batch in batches if batch.targets is not None) // JUDGED)
    with torch.no_grad():
        for batch in batches:
            for chunk in batch.pick(slice(0, None, every)).chunks(JUDGED_AT_ONCE):
                here = chunk.to(device)
                assert here.targets is not None
                yield model(*here.args, **here.kwargs), here.targets
