"""Calibration data as batches that can be sliced, merged and split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optprune_fast.runtime.errors import message

Data = Any  # (inputs, targets), a dict batch, or an iterable of such batches: see `collect`
HELD_OUT = 0.1  # share of the data to select by, where the caller gives none for that
TARGET_KEYS = ("labels", "targets", "label", "target")
PIECE_BYTES = 64 << 20  # of inputs: what is read, checked and turned at once
GROUP = 128  # samples: a piece ends where a wide tile and a group of sums end, on every instruction set

Signature = tuple[tuple[int | str, tuple[int, ...] | str], ...]


@dataclass(frozen=True)
class Batch:
    """`size` samples: what the model is called with, and the targets.

    Tensors whose first dimension is `size` hold one entry a sample; everything else is passed as it is.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    targets: Tensor | None
    size: int

    def pick(self, index: slice | Tensor) -> Batch:
        """The samples of a slice, or of an int64 tensor of sample numbers."""
        size = len(range(self.size)[index]) if isinstance(index, slice) else index.numel()
        chosen = {key: self._pick(value, index) for key, value in self.kwargs.items()}
        targets = None if self.targets is None else self.targets[index]
        return Batch(tuple(self._pick(value, index) for value in self.args), chosen, targets, size)

    def to(self, device: torch.device) -> Batch:
        def move(value: Any) -> Any:
            return value.to(device) if isinstance(value, Tensor) else value

        targets = None if self.targets is None else self.targets.to(device)
        return Batch(tuple(map(move, self.args)), {k: move(v) for k, v in self.kwargs.items()}, targets, self.size)

    def chunks(self, size: int) -> Iterator[Batch]:
        """Consecutive pieces of at most `size` samples."""
        if size >= self.size:
            yield self
            return
        for start in range(0, self.size, size):
            yield self.pick(slice(start, min(start + size, self.size)))

    @property
    def piece(self) -> int:
        """How many samples make a piece: a multiple of `GROUP`, about `PIECE_BYTES` of inputs."""
        return max(1, PIECE_BYTES // max(1, self.bytes // self.size) // GROUP) * GROUP

    @property
    def bytes(self) -> int:
        """Of the inputs."""
        return sum(tensor.nbytes for tensor in self.inputs().values())

    @property
    def signature(self) -> Signature:
        """What a captured graph depends on: shapes of samples, and the values of what has no samples."""
        return tuple((name, tuple(value.shape[1:]) if self._per_sample(value) else repr(value))
                     for name, value in self._named())

    def inputs(self) -> dict[int | str, Tensor]:
        """The inputs that have an entry for each sample, by position or keyword."""
        return {name: value for name, value in self._named() if self._per_sample(value)}

    def shared(self) -> list[int | str]:
        """Positions or keywords of the tensors that have no entry for each sample."""
        return [name for name, value in self._named() if isinstance(value, Tensor) and not self._per_sample(value)]

    def tensors(self) -> Iterator[Tensor]:
        """The tensors that have an entry for each sample, in a fixed order."""
        for value in (*self.args, *(self.kwargs[key] for key in sorted(self.kwargs)), self.targets):
            if self._per_sample(value):
                yield value

    def _named(self) -> Iterator[tuple[int | str, Any]]:
        yield from enumerate(self.args)
        yield from self.kwargs.items()

    def _per_sample(self, value: object) -> bool:
        return isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == self.size

    def _pick(self, value: Any, index: slice | Tensor) -> Any:
        return value[index] if self._per_sample(value) else value


def collect(data: Data) -> list[Batch]:
    """Read calibration data once, and merge what can be merged.

    data:  `(inputs, targets)`; inputs is a tensor, a tuple of tensors (positional) or a dict (keywords);
           or a dict batch with its targets under one of `labels`, `targets`, `label`, `target`;
           or an iterable of such batches, a `DataLoader` for example; targets may be None

    Raises `ValueError` for empty data, sizes that do not agree, or NaN among the inputs.
    """
    batches = [checked(batch) for batch in read(data)]
    if not batches:
        raise ValueError(message("data", "there must be at least one sample", data=type(data).__name__))
    return _merge(batches)


def read(data: Data) -> Iterator[Batch]:
    """The batches of one pass over data, as they come; those without samples are left out."""
    batches = (_batch(item) for item in items(data))
    return (batch for batch in batches if batch.size)


def checked(batch: Batch) -> Batch:
    """The batch, or `ValueError` where it holds NaN."""
    for tensor in batch.tensors():
        # Piece by piece, as the flags of memory-mapped data would fill the memory that the data were kept out of.
        if tensor.is_floating_point() and any(bool(part.isnan().any()) for part in tensor.split(batch.piece)):
            raise ValueError(message("data", "inputs and targets must not hold NaN", tensor=tensor))
    return batch


def pieces(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Neighbours of like shape, joined and cut into pieces: those that held data are cut into."""
    waiting: list[Batch] = []
    for batch in batches:
        if waiting and not _alike(waiting[-1], batch):
            yield _join(waiting)
            waiting = []
        start, missing = 0, batch.piece - sum(part.size for part in waiting)
        while batch.size - start >= missing:
            piece = _join([*waiting, batch.pick(slice(start, start + missing))])
            waiting, start, missing = [], start + missing, batch.piece
            yield piece
        if start < batch.size:
            waiting.append(batch.pick(slice(start, batch.size)))
    if waiting:
        yield _join(waiting)


def split(batches: list[Batch], fraction: float, seed: int) -> tuple[list[Batch], list[Batch]]:
    """Hold out a seeded `fraction` of the samples: (the rest, the held-out part), each in the order it came."""
    total = sum(batch.size for batch in batches)
    held = round(fraction * total)
    if not 0 < held < total:
        raise ValueError(message("validation", f"{fraction} of {total} samples leaves one side empty",
                                 "pass validation= data of its own", samples=total))
    is_held = torch.zeros(total, dtype=torch.bool)
    is_held[torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:held]] = True
    rest: list[Batch] = []
    out: list[Batch] = []
    start = 0
    for batch in batches:
        mine = is_held[start:start + batch.size]
        start += batch.size
        for flags, side in ((~mine, rest), (mine, out)):
            if bool(flags.any()):
                side.append(batch.pick(flags.nonzero().flatten()))
    return _merge(rest), _merge(out)


def items(data: Data) -> Iterable[Any]:
    """What the data consist of, one item a batch."""
    if isinstance(data, (Mapping, Tensor)) or _is_pair(data):
        return (data,)
    if isinstance(data, list) and all(isinstance(item, Batch) for item in data):
        return data
    if isinstance(data, Iterable):
        return data
    raise TypeError(message("data", "data must be (inputs, targets), a dict batch or an iterable of batches",
                            data=data))


def _is_pair(data: Data) -> bool:
    """`(inputs, targets)` rather than two batches: the second is a tensor of as many samples, or None."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        return False
    return data[1] is None or (isinstance(data[1], Tensor) and not isinstance(data[0], (str, bytes)))


def _batch(item: Any) -> Batch:
    if isinstance(item, Batch):
        return item
    inputs, targets = (item, None) if isinstance(item, Tensor) else (None, None)
    kwargs: dict[str, Any] = {}
    if isinstance(item, Mapping):
        kwargs = dict(item)
        key = next((key for key in TARGET_KEYS if key in kwargs), None)
        targets = None if key is None else kwargs.pop(key)
    elif isinstance(item, (tuple, list)) and len(item) == 2:
        inputs, targets = item
    elif inputs is None:
        raise TypeError(message("data", "a batch is (inputs, targets), a tensor or a dict", batch=item))
    if isinstance(inputs, Mapping):
        inputs, kwargs = None, dict(inputs)
    args = () if inputs is None else tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    first = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.dim()), None)
    if first is None:
        raise TypeError(message("data", "a batch needs an input tensor with a dimension for the samples", batch=item))
    if targets is not None and not isinstance(targets, Tensor):
        targets = torch.as_tensor(targets)
    size = first.shape[0]
    if targets is not None and (targets.dim() == 0 or targets.shape[0] != size):
        raise ValueError(message("data", "inputs and targets must have the same number of samples", inputs=first,
                                 targets=targets))
    return Batch(args, kwargs, targets, size)


def _merge(batches: list[Batch]) -> list[Batch]:
    """Join neighbours of like shape, so that chunks are as large as memory allows, not as the loader made them."""
    groups: list[list[Batch]] = []
    for batch in batches:
        if groups and _alike(groups[-1][-1], batch):
            groups[-1].append(batch)
        else:
            groups.append([batch])
    return [_join(group) for group in groups]


def _alike(a: Batch, b: Batch) -> bool:
    def kind(batch: Batch) -> list[object]:
        values = (*batch.args, *(batch.kwargs[key] for key in sorted(batch.kwargs)), batch.targets)
        return [sorted(batch.kwargs), *((v.dtype, v.device, v.shape[1:]) if batch._per_sample(v) else id(v)
                                        for v in values)]
    return kind(a) == kind(b)


def _join(group: list[Batch]) -> Batch:
    if len(group) == 1:
        return group[0]

    def cat(values: list[Any]) -> Any:
        return torch.cat(values) if group[0]._per_sample(values[0]) else values[0]
    first = group[0]
    args = tuple(cat([batch.args[i] for batch in group]) for i in range(len(first.args)))
    kwargs = {key: cat([batch.kwargs[key] for batch in group]) for key in first.kwargs}
    targets = None if first.targets is None else torch.cat([b.targets for b in group if b.targets is not None])
    return Batch(args, kwargs, targets, sum(batch.size for batch in group))
