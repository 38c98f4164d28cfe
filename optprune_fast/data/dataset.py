"""What every reader yields, and what `load` makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy
import torch

from optprune_fast.runtime.errors import describe

Array = numpy.ndarray[Any, Any]
Samples = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Raw:
    """Arrays as a reader found them: inputs [N, ...] and labels [N], not yet checked or normalised."""

    name: str
    train: tuple[Array, Array]
    test: tuple[Array, Array] | None
    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled samples, ready for a network.

    train, test:  (inputs float32 [N, ...], targets int64 [N] in 0 .. classes - 1); test is None where there is none
    class_names:  one name per class: the folder names of an image folder, else "0", "1", ...
    mean, std:    what was subtracted and divided by: one pair per channel of pictures [N, C, H, W], else one pair

    >>> data = Dataset("toy", (torch.zeros(3, 2), torch.tensor([0, 1, 1])), None, 2, ("0", "1"), (0.0,), (1.0,))
    >>> data
    Dataset toy: 2 classes, train float32[3, 2] cpu, no test part
    """

    name: str
    train: Samples
    test: Samples | None
    classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __repr__(self) -> str:
        test = "no test part" if self.test is None else f"test {describe(self.test[0])}"
        return f"Dataset {self.name}: {self.classes} classes, train {describe(self.train[0])}, {test}"
