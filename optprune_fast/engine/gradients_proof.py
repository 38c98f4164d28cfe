"""Whether gradients may be taken layer by layer: found out by doing it both ways on a few samples.

Nothing in a model says that its samples do not mix, or that a layer's first dimension is the samples. But where they
mix, the gradients of three samples together are not those of the three on their own. One network is asked for all
masks, so that the answer does not depend on which of them came first. It is a pruned one: against the outputs of the
unpruned network, the unpruned network has no gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from optprune_fast.engine.batches import Batch
from optprune_fast.engine.forward import MaskedForward
from optprune_fast.engine.gradients_isolated import add_isolated
from optprune_fast.engine.gradients_layers import add_layer_by_layer
from optprune_fast.engine.gradients_sums import Problem, Sums
from optprune_fast.engine.objective import Objective

SAMPLES = 3


@dataclass(frozen=True)
class Proof:
    """holds: gradients may be taken layer by layer, and then a sample keeps `sample_bytes` alive."""

    holds: bool
    sample_bytes: int


_known: WeakKeyDictionary[MaskedForward, dict[Any, Proof]] = WeakKeyDictionary()


def proof_of(forward: MaskedForward, objective: Objective, batch: Batch, memory: int) -> Proof:
    """The proof for batches like this one, made when the first of them comes."""
    few = batch.pick(slice(0, SAMPLES))
    kind = (ref(objective), few.size, *((tensor.shape, tensor.dtype) for tensor in few.tensors()))
    known = _known.setdefault(forward, {})
    if kind not in known:
        known[kind] = _prove(Problem(forward, objective, _pruned(forward), memory), few)
    return known[kind]


def _prove(problem: Problem, batch: Batch) -> Proof:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        owner = tensor.untyped_storage().data_ptr()
        kept[owner] = max(kept.get(owner, 0), tensor.nbytes)
        return tensor.detach()

    together, alone = Sums.zeros(problem.weights), Sums.zeros(problem.weights)
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), _Looks() as looks:
            done = add_layer_by_layer(problem, batch, together)
    except (RuntimeError, ValueError, NotImplementedError, TypeError):
        done = False  # what fails in the other way too is the model's own error, and passes through
    # What vmap runs does not look at values of samples.
    if not done or (looks.seen and problem.forward.way == "loop"):
        return Proof(False, 0)
    add_isolated(problem, batch, alone)
    for tensor in (*problem.forward.state.values(), *problem.weights.values()):
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    roundoff = max(torch.finfo(weight.dtype).eps for weight in problem.weights.values())
    holds = _equal(together.first, alone.first, roundoff) and _equal(together.second, alone.second, roundoff)
    return Proof(holds, -(-sum(kept.values()) // batch.size))


def _equal(ours: dict[str, Tensor], theirs: dict[str, Tensor], roundoff: float) -> bool:
    """Equal but for rounding: of the layer itself, and of what comes to it through the others."""
    largest = max(float(t.abs().max()) for t in theirs.values() if t.numel())
    return all(float((ours[name] - true).abs().max()) <= math.sqrt(roundoff) * float(true.abs().max()) +
               100 * roundoff * largest for name, true in theirs.items() if true.numel())


class _Looks(TorchDispatchMode):
    """Sees whether values decide what is done: some samples would then not show what others bring about."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen |= torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags
        return func(*args, **(kwargs or {}))


def _pruned(forward: MaskedForward) -> dict[str, Tensor]:
    """Every third weight is dropped."""
    weights = {layer.name: forward.state[layer.name].clone(memory_format=torch.contiguous_format)
               for layer in forward.layout}
    for weight in weights.values():
        weight.view(-1)[::3] = 0
    return weights
