"""Calibration data as evaluations go over them: held in memory, or read anew in every pass."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from optprune_fast.engine.batches import Batch, Data, checked, collect, items, pieces, read
from optprune_fast.runtime.errors import message


@dataclass(frozen=True)
class Kind:
    """Batches of one shape.

    example:   a few samples, copied
    largest:   samples of the largest batch
    extremes:  [2, …]: the smallest and the largest of the targets that are whole numbers; of others, a few; or None
    """

    example: Batch
    largest: int
    extremes: Tensor | None

    @staticmethod
    def of(batch: Batch) -> Kind:
        copies = (batch.pick(torch.arange(min(size, batch.size))) for size in count(3))  # a slice would hold it all
        # A shared tensor as long as the example would look as if it had an entry for each sample.
        example = next(few for few in copies if few.signature == batch.signature)
        return Kind(example, batch.size, _extremes(batch.targets))

    def join(self, other: Kind) -> Kind:
        both = self.extremes
        if both is not None and other.extremes is not None:
            both = _extremes(torch.cat([both, other.extremes]))
        return replace(self, largest=max(self.largest, other.largest), extremes=both)


class Batches:
    """All samples, batch by batch: iterating is one pass over the data, which are checked when this is made.

    data:    as `collect` takes them
    stream:  read the data anew in every pass, joined and cut into pieces, and hold a piece at a time
    size:    samples
    kinds:   what the batches are like, by shape, in the order in which they came

    Raises what `collect` raises; for streamed data also `TypeError` where they can be read only once, and in a pass
    `ValueError` where it does not give what the first gave.

    >>> data = [(torch.zeros(2, 3), None), (torch.zeros(3, 3), None)]
    >>> [batch.size for batch in Batches(data, stream=True)], Batches(data).size
    ([5], 5)
    """

    def __init__(self, data: Data, stream: bool = False) -> None:
        self.held = not stream
        self._pass: Callable[[], Iterable[Batch]]
        if stream:
            if isinstance(items(data), Iterator):
                raise TypeError(message("data", "stream=True reads the data in every evaluation, and an iterator can "
                                        "be read only once", "pass the DataLoader or the list that it came from, or "
                                        "an object whose __iter__ starts anew", data=data))
            self._pass = lambda: pieces(read(data))
            first: Iterable[Batch] = pieces(map(checked, read(data)))
        else:
            held = collect(data)
            self._pass = lambda: held
            first = held
        self.size = 0
        self._kinds: dict[Hashable, Kind] = {}
        for batch in first:
            self.size += batch.size
            kind, key = Kind.of(batch), _key(batch)
            self._kinds[key] = self._kinds[key].join(kind) if key in self._kinds else kind
        if not self.size:
            raise ValueError(message("data", "there must be at least one sample", data=type(data).__name__))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(self._kinds.values())

    def subset(self, samples: Tensor) -> Batches:
        """Some of the samples, int64 [S], copied; those of a batch in the order given.

        >>> [batch.size for batch in Batches((torch.zeros(5, 3), None)).subset(torch.tensor([4, 0]))]
        [2]
        """
        return Batches(list(self.pick(samples)))

    def pick(self, samples: Tensor) -> Iterator[Batch]:
        """Some of the samples, as `subset` has them, without what later passes need."""
        if not self.held:
            raise ValueError(message("subset", "streamed data cannot be picked from: nobody holds them",
                                     "stream=False holds them", samples=self.size))
        if samples.numel() and not 0 <= int(samples.min()) <= int(samples.max()) < self.size:
            raise ValueError(message("subset", f"sample numbers must lie in [0, {self.size})",
                                     smallest=int(samples.min()), largest=int(samples.max())))
        start = 0
        for batch in self._pass():
            inside = samples[(samples >= start) & (samples < start + batch.size)] - start
            start += batch.size
            if inside.numel():
                yield batch.pick(inside)

    def __iter__(self) -> Iterator[Batch]:
        size = 0
        for batch in self._pass():
            size += batch.size
            if size > self.size or _key(batch) not in self._kinds:
                break
            yield batch
        else:
            if size == self.size:
                return
        raise ValueError(message("data", "a later pass gave other samples than the first, in number or in shape",
                                 "stream=True needs data that give the same in every pass; stream=False holds those "
                                 "of the first", first=self.size, later=size))


class Pass(NamedTuple):
    """Some candidates on some samples.

    rows, samples:  which candidates of those asked for, and which samples of the data
    outputs:        [p, b, …];   batch: the samples;   dense: dense outputs [b, …] if the objective wants them
    """

    rows: slice
    samples: slice
    outputs: Tensor
    batch: Batch
    dense: Tensor | None


def _key(batch: Batch) -> Hashable:
    targets = batch.targets
    return batch.signature, None if targets is None else (targets.dtype, targets.shape[1:])


def _extremes(targets: Tensor | None) -> Tensor | None:
    if targets is None or targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        return None if targets is None else targets[:2].clone()
    whole = targets.long()
    return torch.stack([whole.amin(0), whole.amax(0)])
