"""Run a model under many masks: `functional_call` and `vmap` over packed words."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from optprune_fast.engine.batches import Batch
from optprune_fast.engine.masked_weight import MaskedWeight, Record
from optprune_fast.masks.layout import MaskLayout, check_finite
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops import masked_linear
from optprune_fast.ops.precision import DEFAULT, chosen
from optprune_fast.plan.model import eval_mode, logits
from optprune_fast.runtime.errors import EvaluationWarning

MODE_DEPENDENT = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


class MaskedForward:
    """A snapshot of a model, callable with masks.

    logit_scale:  what outputs are multiplied with
    precision:    how masked layers multiply
    way:     "vmap", all candidates of a chunk in one pass; or "loop", one pass a candidate, where vmap cannot go
    record:  for each layer, which operation served it, and by which backend
    """

    def __init__(self, model: nn.Module, layout: MaskLayout, backend: str, logit_scale: float = 1.0,
                 precision: str = DEFAULT) -> None:
        self.model, self.layout, self.backend, self.logit_scale = model, layout, backend, logit_scale
        self.precision = precision
        self.way, self.why_loop = "vmap", ""
        self.record: Record = {}
        self.state: dict[str, Tensor] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take the model's weights and buffers as they are now."""
        weights = self.layout.weights_of(self.model)
        check_finite(weights)
        tensors = (*self.model.named_parameters(), *self.model.named_buffers())
        self.state = {name: tensor.detach().clone() for name, tensor in tensors}
        self.device = next(iter(weights.values())).device
        self.dtype = next(iter(weights.values())).dtype

    def resolve(self, whole: bool = False) -> str:
        """The name of the backend that serves this model's type and device; an error if the one asked for cannot.

        whole:  on a GPU, a backend that runs whole networks goes before one that is preferred for single layers
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what runs in plain torch is said when it runs
            example = torch.zeros(1, 1, dtype=self.dtype, device=self.device)
            words = torch.zeros(1, 1, 1, dtype=torch.int64, device=self.device)
            options = chosen("Evaluator", self.precision)
            found = masked_linear.operation.resolve(example, example, words, backend=self.backend, **options)
            free = self.backend == "auto" and not os.environ.get("OPTPRUNE_BACKEND")
            if whole and free and found.backend == "cuda" and self.dtype == torch.float32:
                return "triton" if masked_linear.operation.reason("triton", example, example, words) is None else "cuda"
            return found.backend

    def effective(self, mask: PackedMasks) -> dict[str, Tensor]:
        """{name: weight * mask}, under one mask."""
        return {name: self.state[name] * bits[0] for name, bits in mask.to_dense().items()}

    def dense(self, batch: Batch) -> Tensor:
        """[B, …]: outputs of the unpruned network."""
        with eval_mode(self.model), torch.inference_mode():
            return self.scaled(functional_call(self.model, self.state, batch.args, batch.kwargs))

    def scaled(self, output: Any) -> Tensor:
        """The logits in what the model returned, times their scale."""
        found = logits(output)
        return found if self.logit_scale == 1 else found * self.logit_scale

    def __call__(self, masks: PackedMasks, batch: Batch) -> Tensor:
        """[P, B, …]: outputs under each mask."""
        words = {layer.name: masks.layer_words(layer.name) for layer in self.layout}
        with eval_mode(self.model), torch.inference_mode():
            if self.way == "loop":
                return torch.stack([self._one({k: v[p] for k, v in words.items()}, batch) for p in range(len(masks))])
            # The batching rule of the fused CPU attention is a slow loop; the plain formula has one.
            with sdpa_kernel(SDPBackend.MATH):
                out: Tensor = vmap(self._one, in_dims=(0, None), randomness="different")(words, batch)
                return out

    def choose_way(self, masks: PackedMasks, batch: Batch) -> None:
        """Find out by trying whether `vmap` can run this model; where it cannot, say so once and loop."""
        try:
            self(masks, batch)
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as failure:
            self.way = "loop"
            self(masks, batch)  # what fails here too is the model's own error, and passes through
            self.why_loop = str(failure).strip().splitlines()[0][:200]
            warnings.warn(f"vmap cannot run this model, so candidates are evaluated one at a time: {self.why_loop}",
                          EvaluationWarning, stacklevel=4)

    def _one(self, words: Mapping[str, Tensor], batch: Batch) -> Tensor:
        masked = {name: MaskedWeight.of(self.state[name], words[name], self.backend, self.precision, name,
                                        self.record)
                  for name in words}
        return self.scaled(functional_call(self.model, {**self.state, **masked}, batch.args, batch.kwargs))


def say_mode(model: nn.Module) -> None:
    """Warn where eval mode, in which a model is evaluated, is not the mode it is in and makes a difference."""
    kinds = sorted({type(m).__name__ for m in model.modules() if m.training and isinstance(m, MODE_DEPENDENT)})
    if kinds:
        warnings.warn(f"the model is in train mode and has {', '.join(kinds)}: it is evaluated in eval mode, and "
                      "its mode is restored after each call", EvaluationWarning, stacklevel=3)
