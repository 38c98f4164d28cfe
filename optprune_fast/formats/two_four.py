"""At most two kept weights in every four columns, which tensor cores can skip.

    values  [O, 2 G]            G = ⌈I/4⌉ groups, two slots each; +0.0 in a slot that is not used
    codes   uint8 [O, ⌈G/2⌉]    4 bits a group, the even group lower:  first | second << 2
            first < second: both kept     first = second: one kept, in the first slot     1, 0: none kept
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import flags, packed, patterns, put, row_offsets, take
from optprune_fast.formats.checks import WEIGHT_DTYPES, require, require_plane
from optprune_fast.runtime.errors import message

if TYPE_CHECKING:
    from typing_extensions import Self

NONE = 1  # first 1, second 0


@dataclass(frozen=True, eq=False, repr=False)
class TwoFour(SparseFormat):
    """Two slots for every four columns. Which weights were kept is exact, also where a group keeps one or none.

    >>> held = TwoFour.from_dense(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]), torch.tensor([[26]]))
    >>> held.values, held.group_codes  # columns 1 and 3 of the first group, column 0 of the second
    (tensor([[2., 4., 5., 0.]]), tensor([[13]], dtype=torch.uint8))
    """

    name: ClassVar[str] = "two_four"
    shape: tuple[int, ...]
    group_codes: Tensor
    values: Tensor

    @classmethod
    def from_bitmask(cls, bitmask: Bitmask) -> Self:
        rows, groups = bitmask.rows, -(-bitmask.columns // 4)
        kept = torch.zeros(rows, groups, 4, dtype=torch.bool, device=bitmask.device)
        kept.view(rows, groups * 4)[:, : bitmask.columns] = flags(bitmask.words, bitmask.columns)
        count = kept.sum(-1)
        if bool((count > 2).any()):
            worst = int((count > 2).nonzero()[0, 0])
            raise ValueError(message("two_four", "at most 2 weights may be kept in every 4 columns",
                                     "prune by 2:4, or use another format", shape=list(bitmask.shape), row=worst))
        places = torch.arange(4, dtype=torch.uint8, device=bitmask.device)
        second = torch.where(kept, places, 0).amax(-1)
        first = torch.where(kept, places, 3).amin(-1)
        nibbles = torch.where(count > 0, first | second << 2, NONE)
        values = put((count.unsqueeze(-1) > places[:2]).flatten(1),
                     bitmask.to_bitmask().values)  # type: ignore[arg-type]
        even = torch.nn.functional.pad(nibbles, (0, groups % 2), value=NONE)
        return cls(bitmask.shape, even[:, ::2] | even[:, 1::2] << 4, values)

    def to_bitmask(self) -> Bitmask:
        first, second = self._places()
        places = torch.arange(4, dtype=torch.uint8, device=self.device)
        used = self._used(first, second)
        kept = ((places == first.unsqueeze(-1)) & used[..., :1]) | ((places == second.unsqueeze(-1)) & used[..., 1:])
        words = packed(kept.flatten(1)[:, : self.columns])
        return Bitmask(self.shape, words, take(self.values, used.flatten(1)), row_offsets(words))

    @property
    def groups(self) -> int:
        """Groups of four columns in a row."""
        return -(-self.columns // 4)

    @property
    def nnz(self) -> int:
        return int(self._used(*self._places()).sum())

    def _places(self) -> tuple[Tensor, Tensor]:
        """First and second place of every group: uint8 [O, G]."""
        nibbles = torch.stack([self.group_codes & 15, self.group_codes >> 4], -1).flatten(1)[:, : self.groups]
        return nibbles & 3, nibbles >> 2

    @staticmethod
    def _used(first: Tensor, second: Tensor) -> Tensor:
        """bool [O, G, 2]: which slots hold a kept weight."""
        return torch.stack([first <= second, first < second], -1)

    def validate(self) -> None:
        require(self.values.dtype in WEIGHT_DTYPES, self.name, "values must be floats", values=self.values)
        require_plane(self.name, "group_codes", self.group_codes, torch.uint8, (self.rows, -(-self.groups // 2)))
        require_plane(self.name, "values", self.values, self.values.dtype, (self.rows, 2 * self.groups))
        first, second = self._places()
        require(bool(((first <= second) | ((first == 1) & (second == 0))).all()), self.name,
                "a group's places must rise, be equal, or be 1 and 0", group_codes=self.group_codes)
        unused = ~self._used(first, second).flatten(1)
        require(not bool(patterns(self.values)[unused].any()), self.name, "slots that are not used must be +0.0",
                values=self.values)
        if self.groups % 2:
            require(bool((self.group_codes[:, -1] >> 4 == NONE).all()), self.name, "the half byte past the last group "
                    "must be 1", group_codes=self.group_codes)
        if self.columns % 4:
            lies = torch.maximum(first[:, -1], second[:, -1]) < self.columns % 4
            none = (first[:, -1] == 1) & (second[:, -1] == 0)
            require(bool((lies | none).all()), self.name, "columns must lie in the row", columns=self.columns)
