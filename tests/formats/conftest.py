"""Weights of every bit pattern, and masks that walk the edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optprune_fast.formats.bits import packed, patterns
from optprune_fast.ops.words import matrix

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
SHAPES = ((1,), (7,), (130,), (0, 5), (5, 0), (1, 1), (3, 63), (3, 64), (3, 65), (2, 256), (4, 257), (3, 600),
          (6, 2, 3), (8, 3, 5, 5))
SPECIAL = (0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1.0, -1.0)


class Samples:
    """What the tests of formats are made of."""

    dtypes, shapes = DTYPES, SHAPES

    @staticmethod
    def weight(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
        """Random bit patterns, NaN payloads and subnormals among them, after the special values."""
        generator = torch.Generator().manual_seed(seed)
        n = torch.Size(shape).numel()
        raw = torch.randint(0, 256, (n, dtype.itemsize), dtype=torch.uint8, generator=generator)
        made = raw.view(dtype).flatten()
        special = torch.tensor(SPECIAL, dtype=dtype)[:n]
        patterns(made)[: len(special)] = patterns(special)
        return made.view(shape)

    @staticmethod
    def masks(shape: tuple[int, ...], seed: int = 0) -> dict[str, Tensor]:
        """bool [O, I] by name."""
        rows, columns = matrix(shape)
        generator = torch.Generator().manual_seed(seed)
        draw = torch.rand(rows, columns, generator=generator)
        one = torch.zeros(rows, columns, dtype=torch.bool)
        one[-1:, -1:] = True
        return {"half": draw < 0.5, "few": draw < 0.1, "none": draw < 0, "all": draw < 2, "one": one,
                "empty rows": (draw < 0.5) & (torch.arange(rows).unsqueeze(1) % 2 == 1)}

    @staticmethod
    def two_four(shape: tuple[int, ...], seed: int = 0) -> Tensor:
        """bool [O, I]: at most two of four, sometimes one or none."""
        rows, columns = matrix(shape)
        draw = torch.rand(rows, -(-columns // 4), 4, generator=torch.Generator().manual_seed(seed))
        return ((draw >= draw.sort(-1).values[..., 2:3]) & (draw > 0.3)).flatten(1)[:, :columns]

    @staticmethod
    def blocks(shape: tuple[int, ...], block: tuple[int, int], seed: int = 0) -> Tensor:
        """bool [O, I]: whole blocks."""
        rows, columns = matrix(shape)
        draw = torch.rand(-(-rows // block[0]), -(-columns // block[1]), generator=torch.Generator().manual_seed(seed))
        return (draw < 0.4).repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[:rows, :columns]

    @staticmethod
    def expected(weight: Tensor, mask: Tensor) -> Tensor:
        """The oracle: integers of the bit patterns, 0 where the mask is 0."""
        return torch.where(mask, patterns(weight).reshape(mask.shape), 0).reshape(weight.shape)

    words = staticmethod(packed)


@pytest.fixture(scope="session")
def made() -> type[Samples]:
    return Samples
