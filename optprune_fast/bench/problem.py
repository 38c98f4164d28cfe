"""What every rival is given: a network, samples, and masks that nobody has seen before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.words import popcount
from optprune_fast.plan.model import logits
from optprune_fast.runtime.errors import message

# At density 1 there is one full mask only, and whoever remembers it need not compute. So each drops a few weights.
DROPPED_AT_LEAST = 8


@dataclass(frozen=True, eq=False)
class Problem:
    """A network in eval mode and its samples; the loss is the mean cross-entropy.

    inputs:   [B, …];   targets: int64 [B], classes

    >>> problem = Problem("tiny", nn.Linear(3, 2).eval(), torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]))
    >>> problem.uses
    {'weight': 1}
    """

    name: str
    model: nn.Module
    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets) or not len(self.targets):
            raise ValueError(message("Problem", "inputs and targets must have the same number of samples, at least one",
                                     inputs=self.inputs, targets=self.targets))
        if self.model.training:
            raise ValueError(message("Problem", "the network must be in eval mode", "model.eval()", name=self.name))

    @cached_property
    def layout(self) -> MaskLayout:
        return MaskLayout.of(self.model)

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """{name: weight}: the prunable ones, in layout order."""
        return {name: weight.detach() for name, weight in self.layout.weights_of(self.model).items()}

    def loss(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Tensor []: the loss with these tensors in the place of the model's own."""
        return F.cross_entropy(logits(functional_call(self.model, dict(parameters), (self.inputs,))), self.targets)

    @cached_property
    def uses(self) -> dict[str, int] | None:
        """{name: multiply-adds of each weight for one sample}; None where a weight is not that of a linear layer or a
        convolution, which are the ones that we can count. Padding counts as data, as is usual."""
        counts: dict[str, int] = {}

        def count(name: str) -> Any:
            def hook(layer: nn.Module, inputs: Any, output: Tensor) -> None:
                counts[name] = counts.get(name, 0) + output.numel() // len(self.weights[name])
            return hook

        hooks = [module.register_forward_hook(count(name)) for name, module in self.layers.items()]
        try:
            with torch.inference_mode():
                self.model(self.inputs[:1])
        finally:
            for hook in hooks:
                hook.remove()
        return counts if set(counts) == set(self.weights) else None

    @cached_property
    def layers(self) -> dict[str, nn.Module]:
        """{name of a prunable weight: its layer}: those that are linear or a convolution."""
        found: dict[str, nn.Module] = {}
        for layer in self.layout:
            owner, _, attribute = layer.name.rpartition(".")
            module = self.model.get_submodule(owner)
            if attribute == "weight" and isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
                found[layer.name] = module
        return found

    def useful_flop(self, masks: PackedMasks) -> int | None:
        """Twice the multiply-adds of the kept weights, over all candidates and samples."""
        if self.uses is None:
            return None
        each = (int(popcount(masks.layer_words(name)).sum()) * uses for name, uses in self.uses.items())
        return 2 * len(self.inputs) * sum(each)


@dataclass(frozen=True, eq=False)
class Masks:
    """One population in both forms; a rival takes the one that suits it."""

    packed: PackedMasks

    @cached_property
    def dense(self) -> dict[str, Tensor]:
        """{name: bool [P, *weight.shape]}."""
        return self.packed.to_dense()

    def __len__(self) -> int:
        return len(self.packed)


def fresh_masks(problem: Problem, density: float, candidates: int, number: int) -> Masks:
    """Independent random masks of one exact budget; each `number` gives others.

    >>> problem = Problem("tiny", nn.Linear(30, 20).eval(), torch.zeros(4, 30), torch.zeros(4, dtype=torch.int64))
    >>> fresh_masks(problem, 0.1, 2, 0).packed.count(), fresh_masks(problem, 1.0, 2, 0).packed.count()
    (tensor([60, 60]), tensor([592, 592]))
    """
    if not 0 < density <= 1:
        raise ValueError(message("bench", "density must lie in (0, 1]", density=density))
    n = problem.layout.n
    budget = max(1, min(round(density * n), n - DROPPED_AT_LEAST))
    return Masks(random_masks(problem.layout, budget, candidate_seeds(17, number, candidates)))
