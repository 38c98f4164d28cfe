"""What every format of a weight can do.

    weight [O, …] = O rows of I columns                 from_dense ▸ Bitmask ▸ any format ▸ Bitmask ▸ to_dense
    kept: the bit of the mask is 1                      Bitmask is the hub: no other way goes through a dense copy
    pruned: reads back as +0.0
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from optprune_fast.formats.exponent_code import ExponentCode, Values
from optprune_fast.ops.words import matrix
from optprune_fast.runtime.errors import message

if TYPE_CHECKING:
    from typing_extensions import Self

    from optprune_fast.formats.bitmask import Bitmask


class SparseFormat(ABC):
    """A weight in some format: a frozen value whose planes are plain tensors on one device.

    name:   of the format, as in files
    shape:  of the weight; `rows` and `columns` are those of its matrix, a one-dimensional weight is one row
    """

    name: ClassVar[str]
    codes: ClassVar[tuple[str, ...]] = ("raw",)  # what from_dense takes as values=
    derived: ClassVar[tuple[str, ...]] = ()      # planes that follow from the others and are in no file
    shape: tuple[int, ...]

    # ---- the four that a format brings along

    @classmethod
    @abstractmethod
    def from_bitmask(cls, bitmask: Bitmask) -> Self:
        """The same weight in this format, values raw. Raises `ValueError` if the format cannot hold it."""

    @abstractmethod
    def to_bitmask(self) -> Bitmask:
        """The same weight as bits and raw values."""

    @abstractmethod
    def validate(self) -> None:
        """Raise `ValueError` with the first rule that the planes break."""

    @property
    @abstractmethod
    def nnz(self) -> int:
        """Kept weights."""

    # ---- what follows

    @classmethod
    def from_dense(cls, weight: Tensor, mask_words: Tensor, *, values: str = "raw") -> Self:
        """Keep the weights of the mask, bit by bit.

        weight:      float32, float16, bfloat16 or float64 [O, …]
        mask_words:  int64 [O, ⌈I/64⌉] on the same device, zero tail (`PackedMasks.layer_words(name)[0]`)
        values:      "raw", or "exponent" for the lossless code of 16-bit values, where the format has it
        """
        from optprune_fast.formats.bitmask import Bitmask

        made = cls.from_bitmask(Bitmask.of(weight, mask_words))
        if values not in cls.codes:
            raise ValueError(message(f"{cls.name}.from_dense", f"values must be {' or '.join(cls.codes)}",
                                     values=values))
        return made if values == "raw" else replace(made, values=ExponentCode.of(made.values))  # type: ignore

    def to_dense(self) -> Tensor:
        """The weight [*shape], pruned weights +0.0."""
        return self.to_bitmask().to_dense()

    def mask_words(self) -> Tensor:
        """int64 [O, ⌈I/64⌉]: 1 = kept."""
        return self.to_bitmask().words

    @property
    def rows(self) -> int:
        return matrix(self.shape)[0]

    @property
    def columns(self) -> int:
        return matrix(self.shape)[1]

    @property
    def numel(self) -> int:
        return self.rows * self.columns

    @property
    def density(self) -> float:
        return self.nnz / max(1, self.numel)

    @property
    def dtype(self) -> torch.dtype:
        values: Values = self.values  # type: ignore[attr-defined]
        return values.dtype

    @property
    def coded(self) -> bool:
        """Whether values are held as `ExponentCode`."""
        return isinstance(getattr(self, "values", None), ExponentCode)

    @property
    def device(self) -> torch.device:
        return next(iter(self.tensors().values())).device

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor held, by name; those of coded values as `values.<plane>`."""
        found: dict[str, Tensor] = {}
        for field in fields(self):  # type: ignore[arg-type]
            held = getattr(self, field.name)
            if isinstance(held, Tensor):
                found[field.name] = held
            elif isinstance(held, ExponentCode):
                found |= {f"{field.name}.{name}": plane for name, plane in held.tensors().items()}
        return found

    def planes(self) -> dict[str, Tensor]:
        """The tensors that a file holds."""
        return {name: plane for name, plane in self.tensors().items() if name not in self.derived}

    def parameters(self) -> dict[str, Any]:
        """What a file holds beside planes, shape and dtype; JSON."""
        return {}

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors held."""
        return sum(plane.nbytes for plane in self.tensors().values())

    @classmethod
    def from_planes(cls, shape: tuple[int, ...], dtype: torch.dtype, planes: Mapping[str, Tensor],
                    parameters: Mapping[str, Any]) -> Self:
        """What `planes` and `parameters` told. Raises `ValueError` where they do not fit together (see `validate`)."""
        found: dict[str, Any] = {name: plane for name, plane in planes.items() if "." not in name}
        coded = {name.removeprefix("values."): plane for name, plane in planes.items() if "." in name}
        if coded:
            found["values"] = ExponentCode.from_planes(dtype, coded)
        expected = {field.name for field in fields(cls)} - set(cls.derived) - set(parameters)  # type: ignore[arg-type]
        if {"shape", *found} != expected or (coded and "exponent" not in cls.codes):
            raise ValueError(message(cls.name, "the planes are not those of this format", "", found=sorted(planes),
                                     expected=sorted(expected - {"shape"})))
        made = cls._build(shape, {**found, **parameters})
        if made.dtype != dtype:
            raise ValueError(message(cls.name, "the values are of another dtype than stated", "", dtype=dtype,
                                     values=made.dtype))
        return made

    @classmethod
    def _build(cls, shape: tuple[int, ...], found: dict[str, Any]) -> Self:
        return cls(shape=shape, **found)  # type: ignore[call-arg]

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        moved = {field.name: held.to(device) for field in fields(self)  # type: ignore[arg-type]
                 if isinstance(held := getattr(self, field.name), (Tensor, ExponentCode))}
        return replace(self, **moved)  # type: ignore[type-var]

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return (f"{type(self).__name__}({dtype}{list(self.shape)}, {self.nnz} kept, {self.nbytes} bytes"
                f"{', values coded' if self.coded else ''}, {self.device})")
