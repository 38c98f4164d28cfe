"""Every implementation that runs on this machine, the native one once for each instruction set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optprune_fast.runtime import native
from optprune_fast.testing.sample import Sample
from optprune_fast.testing.samples import samples
from optprune_fast.testing.subjects import Subject

DTYPES = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Variant:
    """One implementation of one operation."""

    subject: Subject
    backend: str
    isa: str = ""

    @property
    def label(self) -> str:
        return f"{self.subject.name}-{self.backend}" + (f".{self.isa}" if self.isa else "")

    @property
    def device(self) -> str:
        on_gpu = self.backend in ("cuda", "triton") and torch.cuda.is_available()
        return "cuda" if on_gpu else "cpu"

    def takes(self, sample: Sample) -> bool:
        """Whether the implementation declares itself able. Plain torch is, by contract."""
        if self.backend == "torch":
            return True
        module = self.subject.operation.implementation(self.backend)
        return module.declines(*moved(sample.arguments, self.device)) is None

    def run(self, arguments: tuple[Any, ...], function: Callable[..., Any] | None = None) -> Any:
        """Call the operation's public function, or `function` in its place, with this variant and no other."""
        with environment("OPTPRUNE_ISA", self.isa):
            return (function or self.subject.function)(*moved(arguments, self.device), backend=self.backend)


def variants(subject: Subject) -> list[Variant]:
    """What runs on this machine, fastest backend first.

    >>> from optprune_fast.testing.subjects import subjects
    >>> variants(subjects()[0])[-1].label
    'choose_bits-torch'
    """
    able = [b for b in subject.operation.backends if subject.operation.missing(b) is None]
    return [Variant(subject, b, isa) for b in able for isa in (native.isas() if b == "native" else ("",))]


def cases(subject: Subject) -> Iterator[tuple[str, Variant, Sample]]:
    """(name, variant, sample) for every dtype that the variant takes; where dtypes make no difference, once."""
    for variant in variants(subject):
        seen: set[str] = set()
        for dtype in DTYPES:
            for sample in samples(subject.name, dtype):
                name = f"{variant.label}-{sample.name}"
                if has_floats(sample.arguments):
                    name += "-" + str(dtype).removeprefix("torch.")
                if name not in seen and variant.takes(sample):
                    seen.add(name)
                    yield name, variant, sample


def leaves(value: Any) -> list[Any]:
    """All that is no tuple and no list.

    >>> leaves((1, [2, (3,)]))
    [1, 2, 3]
    """
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, (tuple, list)) else [value]


def same_bits(one: Any, other: Any) -> bool:
    """Whether two results hold equal tensors and equal numbers, however they are nested.

    >>> same_bits((1.0, [torch.ones(2)]), (1.0, [torch.ones(2)])), same_bits((1.0,), (2.0,))
    (True, False)
    """
    pairs = list(zip(leaves([one]), leaves([other]), strict=True))
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def has_floats(arguments: tuple[Any, ...]) -> bool:
    return any(isinstance(a, Tensor) and a.is_floating_point() for a in leaves(arguments))


def moved(value: Any, device: str) -> Any:
    """The same arguments with every tensor on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    return type(value)(moved(v, device) for v in value) if isinstance(value, (tuple, list)) else value


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """An environment variable that has a value meanwhile."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
