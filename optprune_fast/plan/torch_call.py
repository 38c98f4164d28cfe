"""An operation that the graph has no name for, as a function of tensors."""

from __future__ import annotations

from torch import Tensor, fx

from optprune_fast.plan.exported import Exported
from optprune_fast.plan.recipe import run


class TorchCall:
    """Calls one ATen operation.

    sources:  its tensors, in the order in which they are handed over
    batched:  of these, the ones with an entry for each sample
    spread:   of these, constants that are the same for each sample and come without the batch
    pick:     which of several outputs
    """

    def __init__(self, exported: Exported, node: fx.Node, sources: tuple[fx.Node, ...], batched: tuple[bool, ...],
                 spread: tuple[bool, ...], pick: int | None) -> None:
        self.exported, self.node, self.sources = exported, node, sources
        self.batched, self.spread, self.pick = batched, spread, pick
        self.writes = bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))

    def __call__(self, *tensors: Tensor) -> Tensor:
        """tensors: [B, …] each; constants as `Graph.constants` gives them."""
        batch = next((t.shape[0] for t, batched in zip(tensors, self.batched, strict=True) if batched), 1)
        values = {}
        for source, tensor, spread in zip(self.sources, tensors, self.spread, strict=True):
            value = tensor.expand(batch, *tensor.shape) if spread else tensor
            values[source] = value.clone() if self.writes else value
        out = run(self.node, values, self.exported, batch)
        result: Tensor = out if self.pick is None else out[self.pick]
        return result
