"""What an evaluator is asked about: a network as it was, data, an objective, and the way that they run."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import copy
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor, nn

from optprune_fast.engine import objective as objectives
from optprune_fast.engine.batches import Batch, Data
from optprune_fast.engine.chunks import ChunkPlan, sample_bytes
from optprune_fast.engine.compiled import CompiledForward, why_not_compiled
from optprune_fast.engine.forward import MaskedForward, say_mode
from optprune_fast.engine.hand_over import HandOver, asked_for
from optprune_fast.engine.logit_scale import check_logit_scale
from optprune_fast.engine.objective import Objective, UserObjective
from optprune_fast.engine.passes import Batches
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.precision import DEFAULT
from optprune_fast.runtime.errors import message

REUSE = ("duplicates", "prefix", "delta")
S = TypeVar("S", bound="Snapshot")


class Snapshot:
    """A network and its weights, data and an objective; arguments as `Evaluator` explains them."""

    def __init__(self, model: nn.Module, data: Data, objective: str | UserObjective = "cross_entropy",
                 backend: str = "auto", *, layout: MaskLayout | None = None, memory: int | None = None,
                 plan: bool = True, reuse: Collection[str] = ("duplicates", "prefix"),
                 stream: bool = False, hand_over: bool = True, lookup: bool = False,
                 logit_scale: float = 1.0, precision: str = DEFAULT) -> None:
        if isinstance(reuse, str) or not set(reuse) <= set(REUSE):
            raise ValueError(message("Evaluator", f"reuse is a collection of {', '.join(map(repr, REUSE))}",
                                     "reuse=() evaluates each candidate on its own", reuse=reuse))
        check_logit_scale("Evaluator", logit_scale, objective)
        self.reuse = frozenset(reuse)
        self.layout = MaskLayout.of(model) if layout is None else layout
        self._forward = MaskedForward(model, self.layout, backend, logit_scale, precision)
        self.backend = self._forward.resolve(whole=plan)
        self.batches = Batches(data, stream)
        self.samples = self.batches.size
        self.memory = (32 << 20 if self._forward.device.type == "cpu" else 1 << 30) if memory is None else memory
        say_mode(model)
        self._probe(objective)
        self._last_masks: PackedMasks | None = None  # a few, for `explain` to time
        self._compiled = CompiledForward(self._forward, self.layout, self.batches, self.backend,
                                         why_not_compiled(plan, self.backend, self._forward.dtype),
                                         self.objective.name if self.objective.needs_dense else "", self.memory,
                                         lookup)
        never = "" if hand_over else "hand_over=False"
        self._hand_over = HandOver(self._compiled, never or asked_for(backend), self.plan(1).samples)

    def _probe(self, objective: str | UserObjective) -> None:
        """Run two samples once: find the objective, check targets, choose the way, measure the memory."""
        example = self._example()
        outputs = self._forward.dense(example)
        self.objective: Objective = objectives.named_or_own(objective, outputs, example.targets)
        self._has_classes = objectives.has_classes(outputs, example.targets)
        self._check_targets()
        self.fitness_dtype = torch.float64 if outputs.dtype == torch.float64 else torch.float32
        self._sample_bytes = sample_bytes(lambda: self._forward.dense(example), example.size)
        masks = PackedMasks.full(self.layout, self._forward.device)
        self._forward.choose_way(PackedMasks.cat([masks, masks]), example)
        dense = [self.layout[name] for name, (_, choice) in self._forward.record.items() if choice is None]
        self._weight_bytes = sum(layer.rows * layer.columns for layer in dense) * (self._forward.dtype.itemsize + 1)

    @property
    def weights(self) -> dict[str, Tensor]:
        """{name: weight}: the snapshot of the prunable weights, in layout order."""
        return {layer.name: self._forward.state[layer.name] for layer in self.layout}

    def refresh(self) -> None:
        """Take the model's weights, buffers and dense outputs anew."""
        self._forward.refresh()
        self._compiled.refresh()

    @property
    def logit_scale(self) -> float:
        return self._forward.logit_scale

    @property
    def precision(self) -> str:
        return self._forward.precision

    @cached_property
    def multiply_adds(self) -> int:
        """Of the dense network for one sample, as torch counts them: what decides which searches can be afforded."""
        from torch.utils.flop_counter import FlopCounterMode  # it imports triton

        example = self._example()
        with FlopCounterMode(display=False) as counter:
            self._forward.dense(example)
        return int(counter.get_total_flops()) // (2 * example.size)

    def plan(self, candidates: int) -> ChunkPlan:
        """How many of `candidates` and how many samples go through at once."""
        return ChunkPlan.of(self.memory, self._sample_bytes, self._weight_bytes, candidates, self.samples)

    def subset(self: S, samples: Tensor) -> S:
        """An evaluator of the same network on some of the samples, int64 [S], as numbers in the order of the data.

        It shares the captured plan and the snapshot of the weights; after `refresh()`, make it anew.

        >>> from optprune_fast import Evaluator
        >>> ev = Evaluator(nn.Linear(3, 2), (torch.randn(4, 3), torch.tensor([0, 1, 0, 1])), backend="torch")
        >>> ev.subset(torch.tensor([0, 2])).samples
        2
        """
        return self._over(self.batches.subset(samples))

    def on(self: S, data: Data) -> S:
        """An evaluator of the same network on other data, which it holds. Like `subset` it shares the captured plan and
        the snapshot of the weights.

        >>> from optprune_fast import Evaluator
        >>> ev = Evaluator(nn.Linear(3, 2), (torch.randn(4, 3), torch.tensor([0, 1, 0, 1])), backend="torch")
        >>> ev.on((torch.randn(7, 3), torch.tensor([0] * 7))).samples
        7
        """
        other = self._over(Batches(data))
        example = other._example()
        outputs = other._forward.dense(example)
        other._has_classes = objectives.has_classes(outputs, example.targets)
        other._check_targets()
        return other

    def scaled(self: S, logit_scale: float) -> S:
        """An evaluator of the same network on the same data, with this scale of the logits. It shares the snapshot of
        the weights; after `refresh()`, make it anew.

        >>> from optprune_fast import Evaluator
        >>> ev = Evaluator(nn.Linear(3, 2), (torch.randn(4, 3), torch.tensor([0, 1, 0, 1])), backend="torch")
        >>> full = PackedMasks.full(ev.layout)
        >>> bool((ev.scaled(2.0).outputs(full) == 2 * ev.outputs(full)).all())
        True
        """
        check_logit_scale("Evaluator.scaled", logit_scale, self.objective.name if self.objective.named else None)
        if logit_scale == self.logit_scale:
            return self
        forward = copy(self._forward)
        forward.logit_scale = logit_scale
        return self._through(forward)

    def in_fp32(self: S) -> S:
        """An evaluator of the same network on the same data, whose masked layers multiply in fp32, as every backend's
        can. It shares the snapshot of the weights; after `refresh()`, make it anew.

        >>> from optprune_fast import Evaluator
        >>> ev = Evaluator(nn.Linear(3, 2), (torch.randn(4, 3), torch.tensor([0, 1, 0, 1])), backend="torch")
        >>> ev.in_fp32() is ev
        True
        """
        if self.precision == DEFAULT:
            return self
        forward = copy(self._forward)
        forward.precision = DEFAULT
        return self._through(forward)

    def _over(self: S, batches: Batches) -> S:
        other = copy(self)
        other.batches, other.samples, other._last_masks = batches, batches.size, None
        other._compiled = self._compiled.over(batches)
        other._hand_over = self._hand_over.over(other._compiled)
        return other

    def _through(self: S, forward: MaskedForward) -> S:
        """The same, by way of this one."""
        other = copy(self)
        other._forward, other._last_masks = forward, None
        other._compiled = self._compiled.through(forward)
        other._hand_over = self._hand_over.over(other._compiled)
        return other

    def _dense(self, batch: Batch) -> Tensor:
        return self._forward.dense(batch.to(self._forward.device))

    def _example(self) -> Batch:
        return self.batches.kinds[0].example.pick(slice(0, 2)).to(self._forward.device)

    def _on_device(self) -> Iterator[Batch]:
        return (batch.to(self._forward.device) for batch in self.batches)

    def _check_targets(self) -> None:
        if self.objective.needs_targets:
            for kind in self.batches.kinds:  # sequences of other lengths, for example
                objectives.check_targets(self.objective.name, self._dense(kind.example), kind.extremes)
