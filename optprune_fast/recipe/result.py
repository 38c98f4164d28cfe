"""What a search found, on disk and applied to a model."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from optprune_fast.masks.apply import zero_pruned
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.masks.torch_prune import to_torch_prune
from optprune_fast.ops.precision import DEFAULT
from optprune_fast.runtime.errors import IntegrityError, message
from optprune_fast.runtime.files import load_tensors, save_tensors, sha256_tensors

KIND, FILE = "mask", "mask.safetensors"
_MASKS = ("mask", "core", "magnitude")


@dataclass(frozen=True)
class Result:
    """A mask, what it is worth, and where it comes from.

    mask:         the weights kept, one mask
    core:         the weights that every candidate kept, one mask
    magnitude:    the mask of magnitude pruning at the same budget
    fitness:      of the mask on the held-out part, `held_out` says which; lower is better
    baseline:     of magnitude pruning, on the same part
    history:      a row whenever the best calibration fitness improved: evaluations, seconds, fitness, validation
    base_digest:  SHA-256 of the prunable weights that the mask was found for
    logit_scale:  what the search multiplied logits with, and so what its history is of; the other figures are of
                  logits as they are. For probabilities, multiply the last layer by it; `finetune` finds its own
    precision:    how the search multiplied in masked layers, and so what its history is of; the other figures are of
                  fp32
    calibration_fitness:  of the mask, on the data that the search saw; how far `fitness` lies above it is what the
                  search has overfitted. None where a file does not say
    screened, gradient_passes:  what the search spent beside its evaluations, in passes over all calibration data:
                  forward passes of candidates over parts of the data, and passes for gradients
    """

    mask: PackedMasks
    core: PackedMasks
    magnitude: PackedMasks
    fitness: float
    baseline: float
    history: list[dict[str, float]]
    sparsity: float
    small: float
    seed: int
    strategy: str
    objective: str
    held_out: str
    evaluations: int
    seconds: float
    stopped_by: str
    base_digest: str
    screened: float = 0.0
    gradient_passes: float = 0.0
    logit_scale: float = 1.0
    calibration_fitness: float | None = None
    precision: str = DEFAULT

    @property
    def layout(self) -> MaskLayout:
        return self.mask.layout

    @property
    def budget(self) -> int:
        """Weights kept, exactly."""
        return int(self.mask.count())

    @property
    def kept_small(self) -> int:
        """Kept weights that magnitude pruning would have dropped."""
        return self.budget - int(self.mask.overlap(self.magnitude))

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `folder/mask.safetensors` (docs/FORMATS.md), aside and renamed; return its path."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _MASKS}
        metadata = {"result": json.dumps(plain, allow_nan=True), "layout": self.layout.to_json(),
                    "budget": str(self.budget), "bit_order": "little", "word_bits": "64"}
        save_tensors(target / FILE, {name: getattr(self, name).words.cpu() for name in _MASKS}, metadata, kind=KIND)
        return target / FILE

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> Result:
        """Read what `save` wrote, from the folder or the file itself.

        Raises `FileNotFoundError`, or `IntegrityError` if a bit is not as it was written.
        """
        path = Path(folder)
        path = path / FILE if path.is_dir() else path
        tensors, metadata = load_tensors(path, kind=KIND)
        try:
            layout = MaskLayout.from_json(metadata["layout"])
            plain: dict[str, Any] = json.loads(metadata["result"])
            plain.setdefault("calibration_fitness", next(
                (row["fitness"] for row in plain["history"] if row["validation"] == plain["fitness"]), None))
            mask, core, magnitude = (PackedMasks(layout, tensors[name]) for name in _MASKS)
            result = Result(mask, core, magnitude, **plain)
        except (KeyError, TypeError, ValueError) as problem:
            raise IntegrityError(message("Result.load", f"the file does not hold a result: {problem}",
                                         path=str(path))) from problem
        if metadata.get("bit_order") != "little" or metadata.get("budget") != str(result.budget):
            raise IntegrityError(message("Result.load", "the mask does not have the budget or the bit order that the "
                                         "file states", path=str(path)))
        return result

    def apply_to(self, model: nn.Module, *, allow_changed_weights: bool = False) -> nn.Module:
        """Set the pruned weights of `model` to zero, in place; return the model.

        Raises `ValueError` if the model has other weights than the mask was found for; after fine-tuning,
        `allow_changed_weights=True` says that this is meant. The layout must fit in any case.
        """
        weights = self.layout.weights_of(model)
        self._require_base(weights, allow_changed_weights, "Result.apply_to")
        zero_pruned(model, self.mask)
        return model

    def as_torch_prune(self, model: nn.Module, *, allow_changed_weights: bool = False) -> nn.Module:
        """Prune `model` in place in the form of `torch.nn.utils.prune` (`weight_orig`, `weight_mask`); return it."""
        weights = self.layout.weights_of(model)
        self._require_base(weights, allow_changed_weights, "Result.as_torch_prune")
        return to_torch_prune(model, self.mask.to(next(iter(weights.values())).device))

    def require_weights(self, model: nn.Module, allow_changed: bool, where: str) -> None:
        """Raise `ValueError` unless the model has the weights that the mask was found for, or may have others."""
        self._require_base(self.layout.weights_of(model), allow_changed, where)

    def _require_base(self, weights: dict[str, Tensor], allow_changed: bool, where: str) -> None:
        found = weights_digest(weights)
        if found != self.base_digest and not allow_changed:
            raise ValueError(message(where, "the model's weights are not those that the mask was found for",
                                     "load the original weights, or pass allow_changed_weights=True after fine-tuning",
                                     expected=self.base_digest[:16], found=found[:16]))


def weights_digest(weights: dict[str, Tensor]) -> str:
    """SHA-256 of the prunable weights: names, dtypes, shapes and values."""
    return sha256_tensors(weights)
