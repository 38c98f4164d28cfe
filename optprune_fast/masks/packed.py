"""Populations of masks as packed words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral

import torch
from torch import Tensor

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.ops.cuda_support import sent
from optprune_fast.ops.words import pack, popcount, unpack
from optprune_fast.runtime.errors import message


class PackedMasks:
    """`P` masks of one layout, a bit a weight, 1 = kept.

    layout:  which weights there are
    words:   int64 [P, W], any device; bits without a weight are zero (docs/FORMATS.md)

    >>> layout = MaskLayout.from_shapes({"w": (1, 3)})
    >>> masks = PackedMasks.from_dense(layout, {"w": torch.tensor([[[True, False, True]]])})
    >>> masks.count(), (~masks).count(), masks
    (tensor([2]), tensor([1]), PackedMasks(P=1, n=3, W=1, cpu))
    """

    __slots__ = ("layout", "words")

    def __init__(self, layout: MaskLayout, words: Tensor) -> None:
        if words.dtype != torch.int64:
            raise TypeError(message("PackedMasks", "words must be int64 bit patterns", words=words))
        if words.dim() != 2 or words.shape[1] != layout.W:
            raise ValueError(message("PackedMasks", f"words must be [P, {layout.W}] for this layout", words=words))
        if bool((words & ~layout.valid_on(words.device)).any()):
            raise ValueError(message("PackedMasks", "bits without a weight must be zero",
                                     "PackedMasks.from_dense packs booleans with a zero tail", words=words))
        self.layout = layout
        self.words = words

    @classmethod
    def _of(cls, layout: MaskLayout, words: Tensor) -> PackedMasks:
        """Words that are known to be good: what an operation on checked masks gives."""
        masks = object.__new__(cls)
        masks.layout, masks.words = layout, words
        return masks

    @staticmethod
    def from_dense(layout: MaskLayout, dense: Mapping[str, Tensor]) -> PackedMasks:
        """Pack booleans: `{"layer.weight": bool [P, *weight.shape]}`, every layer of the layout, one `P`."""
        unknown = set(dense) - {name for layer in layout for name in (layer.name, *layer.aliases)}
        if unknown:
            raise ValueError(message("PackedMasks.from_dense", "unknown layers", "layers: " +
                                     ", ".join(layer.name for layer in layout), unknown=sorted(unknown)))
        blocks: list[Tensor] = []
        for layer in layout:
            if layer.name not in dense:
                raise ValueError(message("PackedMasks.from_dense", "every layer needs a mask", missing=layer.name))
            bits = dense[layer.name]
            if tuple(bits.shape[1:]) != layer.shape or (blocks and bits.shape[0] != blocks[0].shape[0]):
                raise ValueError(message("PackedMasks.from_dense", "masks must be [P, *weight.shape], one P for all",
                                         layer=layer.name, shape=list(layer.shape), mask=bits))
            blocks.append(pack(bits.reshape(bits.shape[0], layer.rows, layer.columns)).flatten(1))
        return PackedMasks._of(layout, torch.cat(blocks, dim=1))

    def to_dense(self) -> dict[str, Tensor]:
        """`{"layer.weight": bool [P, *weight.shape]}`."""
        return {layer.name: unpack(self.layer_words(layer.name), layer.columns).reshape(len(self), *layer.shape)
                for layer in self.layout}

    @staticmethod
    def full(layout: MaskLayout, device: torch.device | str = "cpu") -> PackedMasks:
        """The one mask that keeps every weight."""
        return PackedMasks._of(layout, layout.valid_on(device).unsqueeze(0).clone())

    @staticmethod
    def from_indices(layout: MaskLayout, indices: Tensor) -> PackedMasks:
        """The one mask that keeps the weights with these distinct flat indices (int64 [k], layout order)."""
        bits = torch.zeros(layout.W * 64, dtype=torch.bool, device=indices.device)
        bits[layout.positions(indices)] = True
        return PackedMasks._of(layout, pack(bits.view(1, layout.W, 64)).reshape(1, -1))

    def indices(self) -> Tensor:
        """int64 [k]: flat indices of the kept weights of a single mask, ascending."""
        if len(self) != 1:
            raise ValueError(message("PackedMasks.indices", "one mask at a time", "masks[i].indices()", P=len(self)))
        return self.flat()[0].nonzero().flatten()

    def flat(self) -> Tensor:
        """bool [P, n]: a flag a weight, in layout order."""
        dense = self.to_dense()
        return torch.cat([dense[layer.name].flatten(1) for layer in self.layout], dim=1)

    def layer_words(self, name: str) -> Tensor:
        """int64 [P, O, ⌈I/64⌉]: a view of one layer's rows, as the masked operations take them."""
        layer = self.layout[name]
        return self.words[:, layer.words].view(len(self), layer.rows, layer.row_words)

    def count(self) -> Tensor:
        """int64 [P]: kept weights of each mask."""
        return popcount(self.words).sum(1)

    def overlap(self, other: PackedMasks) -> Tensor:
        """int64 [P]: weights that both keep, mask by mask (a single mask is compared with all)."""
        return (self & other).count()

    def to(self, device: torch.device | str) -> PackedMasks:
        return PackedMasks._of(self.layout, self.words.to(device))

    @property
    def device(self) -> torch.device:
        return self.words.device

    @staticmethod
    def cat(parts: Sequence[PackedMasks]) -> PackedMasks:
        """All masks of `parts`, in order."""
        if not parts:
            raise ValueError(message("PackedMasks.cat", "there must be at least one part", parts=parts))
        for part in parts[1:]:
            parts[0]._require_alike(part, "cat")
        return PackedMasks._of(parts[0].layout, torch.cat([part.words for part in parts]))

    def __len__(self) -> int:
        return self.words.shape[0]

    def __getitem__(self, index: int | slice | Tensor | Sequence[int]) -> PackedMasks:
        """Masks by number, slice, index tensor or boolean tensor; always `PackedMasks`, also for one."""
        if isinstance(index, (int, Integral)) or (isinstance(index, Tensor) and index.dim() == 0):
            index = int(index)
            if not -len(self) <= index < len(self):
                raise IndexError(f"PackedMasks: mask {index} of {len(self)}")
            index = slice(index % len(self), index % len(self) + 1)
        elif self.device.type != "cpu" and not isinstance(index, slice):
            index = self._sent(torch.as_tensor(index, dtype=None if len(index) else torch.int64))
        return PackedMasks._of(self.layout, self.words[index])

    def __iter__(self) -> Iterator[PackedMasks]:
        return (self[i] for i in range(len(self)))

    def __and__(self, other: PackedMasks) -> PackedMasks:
        self._require_alike(other, "&")
        return PackedMasks._of(self.layout, self.words & other.words)

    def __or__(self, other: PackedMasks) -> PackedMasks:
        self._require_alike(other, "|")
        return PackedMasks._of(self.layout, self.words | other.words)

    def __xor__(self, other: PackedMasks) -> PackedMasks:
        self._require_alike(other, "^")
        return PackedMasks._of(self.layout, self.words ^ other.words)

    def __invert__(self) -> PackedMasks:
        return PackedMasks._of(self.layout, ~self.words & self.layout.valid_on(self.device))

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, PackedMasks) and self.layout == other.layout and
                torch.equal(self.words, other.words))

    __hash__ = None  # type: ignore[assignment]  # equal by value, and the words can change

    def __repr__(self) -> str:
        return f"PackedMasks(P={len(self)}, n={self.layout.n}, W={self.layout.W}, {self.device})"

    def _require_alike(self, other: PackedMasks, operation: str) -> None:
        if self.layout != other.layout:
            raise ValueError(message(f"PackedMasks {operation}", "masks of different layouts", left=self, right=other))
        if self.device != other.device:
            raise ValueError(message(f"PackedMasks {operation}", "masks on different devices", "use .to(device)",
                                     left=self, right=other))

    def _sent(self, index: Tensor) -> Tensor:
        """An index on the masks' device; flags on the CPU are counted there, where that waits for nobody."""
        if index.dtype == torch.bool and index.device.type == "cpu":
            if index.shape != (len(self),):
                raise IndexError(f"PackedMasks: flags {list(index.shape)} for {len(self)} masks")
            index = index.nonzero()[:, 0]
        return sent(index, self.device)
