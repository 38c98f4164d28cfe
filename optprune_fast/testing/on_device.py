"""Every operation on a device, against float64: for machines where pytest is not at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optprune_fast.ops.precision import DEFAULT, PRECISIONS
from optprune_fast.testing.poison import Poisoned, PoisonedAllocations
from optprune_fast.testing.sample import Sample
from optprune_fast.testing.samples import meaning, reference, samples
from optprune_fast.testing.subjects import Subject, subjects
from optprune_fast.testing.tolerance import assert_as_accurate
from optprune_fast.testing.variants import leaves


@dataclass(frozen=True)
class Verdict:
    """How one implementation did on all samples of one dtype, or in one precision."""

    operation: str
    backend: str
    dtype: str
    agreed: int
    declined: int
    faults: tuple[str, ...]  # "sample: what is wrong"


def verdicts(device: str, backends: Sequence[str], dtypes: Sequence[torch.dtype]) -> Iterator[Verdict]:
    """Run every operation on `device`: each of `backends` that is able, each of `dtypes`, all samples amid poison; and
    where there is a choice, float32 in each precision.

    Only a wrong result is a fault: an exception of an implementation passes through.

    >>> [v.faults for v in verdicts("cpu", ["torch"], [torch.float32]) if v.operation == "choose_bits"]
    [()]
    """
    for subject in subjects():
        for backend in backends:
            if backend in subject.operation.backends and subject.operation.missing(backend) is None:
                for dtype in dtypes:
                    yield _verdict(subject, backend, dtype, device)
                if "precision" in getattr(subject.operation.implementation(backend), "OPTIONS", ()):
                    for precision in PRECISIONS:
                        if precision != DEFAULT:
                            yield _verdict(subject, backend, torch.float32, device, precision)


def _verdict(subject: Subject, backend: str, dtype: torch.dtype, device: str, precision: str = DEFAULT) -> Verdict:
    agreed, declined, faults = 0, 0, []
    options = {} if precision == DEFAULT else {"precision": precision}
    for sample in samples(subject.name, dtype):
        arguments, guards = placed(sample.arguments, device)
        module = subject.operation.implementation(backend)
        if backend != "torch" and module.declines(*arguments, **options) is not None:
            declined += 1
            continue
        inner = subject.operation if subject.operator else subject.function  # a mode does not reach into operators
        try:
            with PoisonedAllocations() as allocations:
                result = inner(*arguments, backend=backend, **options)
            judge(subject, sample, result, subject.function(*arguments, backend="torch"), precision)
            allocations.assert_intact()
            for guard in guards:
                guard.assert_intact()
        except AssertionError as fault:
            faults.append(f"{sample.name}: {fault}")
        else:
            agreed += 1
    kind = str(dtype).removeprefix("torch.") if precision == DEFAULT else precision
    return Verdict(subject.name, backend, kind, agreed, declined, tuple(faults))


def judge(subject: Subject, sample: Sample, result: Any, plain: Any, precision: str = DEFAULT) -> None:
    """Raise an `AssertionError` unless bits are equal and floating sums obey the tolerance rule.

    plain:  what torch gives for the same arguments
    """
    ours, torchs, expected = leaves(result), leaves(plain), leaves(meaning(subject.name, sample))
    assert len(ours) == len(expected), f"{len(ours)} results, expected {len(expected)}"
    for got, same, wanted in zip(ours, torchs, expected, strict=True):
        if isinstance(wanted, Tensor) and wanted.is_floating_point():
            assert_as_accurate(got.cpu(), same.cpu(), wanted, terms=sample.terms, magnitude=_magnitude(subject, sample),
                               precision=precision)
        elif isinstance(wanted, Tensor):
            assert got.dtype == wanted.dtype, f"dtype {got.dtype}, expected {wanted.dtype}"
            assert torch.equal(got.cpu(), wanted), "bits differ"
        else:
            assert got == wanted, f"{got}, expected {wanted}"


def _magnitude(subject: Subject, sample: Sample) -> float:
    """The largest sum of absolute products: the meaning itself, of absolute inputs."""
    absolute = [a.abs() if isinstance(a, Tensor) and a.is_floating_point() else a for a in sample.arguments]
    result = reference(subject.name)(*absolute)
    return float(result.max()) if result.numel() else 0.0


def placed(value: Any, device: str) -> tuple[Any, list[Poisoned]]:
    """The same arguments on `device`, strides included, amid poison; and the guards to ask afterwards."""
    if isinstance(value, Tensor):
        # Elements that share memory are placed once and shared again.
        single = value[tuple(slice(0, 1) if step == 0 else slice(None) for step in value.stride())]
        there = torch.empty_strided(single.shape, single.stride(), dtype=value.dtype, device=device).copy_(single)
        poisoned = Poisoned(there)
        return poisoned.tensor.expand(value.shape), [poisoned]
    if isinstance(value, (tuple, list)):
        parts = [placed(v, device) for v in value]
        return type(value)(p for p, _ in parts), [g for _, guards in parts for g in guards]
    return value, []
