"""Normalisation: `(x - mean) / std`, one pair per channel of pictures, else one pair for all values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from optprune_fast.data.dataset import Samples
from optprune_fast.runtime.errors import message

# Rows per step: sums in float64 without a float64 copy of everything.
ROWS = 4096

Numbers = tuple[float, ...]


def statistics(
    inputs: torch.Tensor, mean: float | Sequence[float] | None, std: float | Sequence[float] | None
) -> tuple[Numbers, Numbers]:
    """The mean and the spread to normalise by: as given, else those of `inputs`.

    >>> statistics(torch.tensor([[1.0, 3.0]]), None, None)
    ((2.0,), (1.0,))
    """
    used_mean = _measured_mean(inputs) if mean is None else _given("mean", mean, inputs)
    if std is not None:
        used_std = _given("std", std, inputs)
        if min(used_std) <= 0:
            raise ValueError(message("load", "std must be above 0", "std=1 leaves the spread alone", std=std))
        return used_mean, used_std
    centre = used_mean if mean is None else _measured_mean(inputs)
    return used_mean, _measured_std(inputs, centre)


def normalised(samples: Samples, mean: Numbers, std: Numbers) -> Samples:
    """The samples with inputs `(x - mean) / std`; the tensor is overwritten."""
    inputs, targets = samples
    return inputs.sub_(_column(mean, inputs)).div_(_column(std, inputs)), targets


def _channels(inputs: torch.Tensor) -> int:
    return inputs.shape[1] if inputs.dim() == 4 else 1


def _column(numbers: Numbers, inputs: torch.Tensor) -> torch.Tensor:
    column = torch.tensor(numbers, dtype=torch.float32)
    return column.view(1, -1, 1, 1) if inputs.dim() == 4 else column


def _given(name: str, value: float | Sequence[float], inputs: torch.Tensor) -> Numbers:
    channels = _channels(inputs)
    numbers = (float(value),) * channels if isinstance(value, (int, float)) else tuple(float(v) for v in value)
    if len(numbers) != channels:
        rule = f"{name} must be a number, or {channels} of them: one per channel of pictures [N, C, H, W]"
        raise ValueError(message("load", rule, "", inputs=inputs, **{name: value}))
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(message("load", f"{name} must be finite", "", **{name: value}))
    return numbers


def _by_channel(chunk: torch.Tensor) -> torch.Tensor:
    """[rows, C, H, W] -> [C, everything else]; any other shape -> [1, everything]."""
    return chunk.transpose(0, 1).flatten(1) if chunk.dim() == 4 else chunk.reshape(1, -1)


def _measured_mean(inputs: torch.Tensor) -> Numbers:
    channels = _channels(inputs)
    total = torch.zeros(channels, dtype=torch.float64)
    for start in range(0, len(inputs), ROWS):
        total += _by_channel(inputs[start : start + ROWS]).double().sum(1)
    return tuple((total / (inputs.numel() // channels)).tolist())


def _measured_std(inputs: torch.Tensor, centre: Numbers) -> Numbers:
    channels = _channels(inputs)
    total = torch.zeros(channels, dtype=torch.float64)
    column = torch.tensor(centre, dtype=torch.float64)[:, None]
    for start in range(0, len(inputs), ROWS):
        total += (_by_channel(inputs[start : start + ROWS]).double() - column).square().sum(1)
    spread = (total / (inputs.numel() // channels)).sqrt()
    # Rounding leaves a constant channel at about 1e-17, not at 0; float32 cannot tell such a spread from none.
    constant = spread <= column[:, 0].abs() * torch.finfo(torch.float32).eps
    return tuple(torch.where(constant, 1.0, spread).tolist())
