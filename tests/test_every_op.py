"""Every implementation of every operation, on every sample. No operation is named here: they are found by looking."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from optprune_fast.runtime.dispatch import calls
from optprune_fast.runtime.errors import BackendError
from optprune_fast.testing.error_inputs import ErrorInput, error_inputs
from optprune_fast.testing.poison import PoisonedAllocations, poison_all
from optprune_fast.testing.sample import Sample
from optprune_fast.testing.samples import meaning, reference, samples
from optprune_fast.testing.subjects import Subject, subjects
from optprune_fast.testing.tolerance import assert_as_accurate
from optprune_fast.testing.variants import Variant, cases, has_floats, leaves, moved, same_bits, variants

SUBJECTS = subjects()
VARIANTS = [v for s in SUBJECTS for v in variants(s)]
COMPILED = [v for v in VARIANTS if v.backend in ("native", "numba")]
CASES = [pytest.param(variant, sample, id=name) for s in SUBJECTS for name, variant, sample in cases(s)]


def named(some: list[Variant]) -> list[Any]:
    return [pytest.param(v, id=v.label) for v in some]


def packed_words(arguments: tuple[Any, ...]) -> Tensor | None:
    """The argument that holds words of each candidate, [P, …]."""
    found = [a for a in arguments if isinstance(a, Tensor) and a.dtype == torch.int64 and a.dim() > 1]
    return found[0] if found else None


def magnitude(subject: Subject, sample: Sample) -> float:
    """The largest sum of absolute products: the meaning itself, of absolute inputs."""
    absolute = [a.abs() if isinstance(a, Tensor) and a.is_floating_point() else a for a in sample.arguments]
    result = reference(subject.name)(*absolute)
    return float(result.max()) if result.numel() else 0.0


def assert_right(subject: Subject, sample: Sample, result: Any) -> None:
    """Bits are equal; floating sums obey the tolerance rule."""
    ours, expected = leaves(result), leaves(meaning(subject.name, sample))
    assert len(ours) == len(expected)
    for got, wanted in zip(ours, expected, strict=True):
        if isinstance(wanted, Tensor) and wanted.is_floating_point():
            plain = subject.function(*sample.arguments, backend="torch")
            assert_as_accurate(got.cpu(), plain, wanted, terms=sample.terms, magnitude=magnitude(subject, sample))
        elif isinstance(wanted, Tensor):
            assert torch.equal(got.cpu(), wanted)
            assert got.dtype == wanted.dtype
        else:
            assert got == wanted


@pytest.mark.parametrize(("variant", "sample"), CASES)
def test_result_is_right_and_the_backend_asked_for_gave_it(variant: Variant, sample: Sample) -> None:
    name, before = variant.subject.name, calls.copy()
    result = variant.run(sample.arguments)
    assert {key: n for key, n in (calls - before).items() if key[0] == name} == {(name, variant.backend): 1}
    assert_right(variant.subject, sample, result)


@pytest.mark.parametrize(("variant", "sample"), CASES)
def test_poison_around_inputs_and_outputs_is_neither_read_nor_written(variant: Variant, sample: Sample) -> None:
    plain = leaves(variant.run(sample.arguments))
    arguments, guards = poison_all(moved(sample.arguments, variant.device))
    # What happens inside of an operator of torch is hidden from a mode, so its operation is called instead.
    inner = variant.subject.operation if variant.subject.operator else variant.subject.function
    with PoisonedAllocations() as allocations:
        amid_poison = variant.run(arguments, inner)
    assert allocations.count
    if variant.backend == "torch":  # its matrix product rounds differently where memory is aligned differently
        assert_right(variant.subject, sample, amid_poison)
    else:
        assert same_bits(plain, leaves(amid_poison))
    for guard in guards:
        guard.assert_intact()
    allocations.assert_intact()


@pytest.mark.parametrize("variant", named([
    v for v in VARIANTS if v.device == "cpu"  # a file with holes cannot be mapped into the memory of a GPU
    and packed_words(samples(v.subject.name)[0].arguments) is not None]))
def test_candidates_beyond_32_bits_apart_are_found(variant: Variant, tmp_path: Path) -> None:
    """Words [P, …] whose candidates lie more than 2^31 words apart, in a file with holes."""
    sample = samples(variant.subject.name)[0]
    packed = packed_words(sample.arguments)
    assert packed is not None
    words, step = packed[:2], 2**31 + 11
    holes = torch.from_file(str(tmp_path / "holes"), shared=True, size=step + words[0].numel(), dtype=torch.int64)
    far = holes.as_strided(words.shape, (step, *words[0].contiguous().stride())).copy_(words)

    def with_words(words: Tensor) -> tuple[Any, ...]:
        """The sample with its first two candidates, and these words."""
        return tuple(words if a is packed else a[:2] if per_candidate(a) else a for a in sample.arguments)

    def per_candidate(argument: Any) -> bool:
        return isinstance(argument, Tensor) and argument.dim() == 1 and argument.shape == packed.shape[:1]

    assert torch.equal(variant.run(with_words(far)), variant.run(with_words(words)))


@pytest.mark.parametrize("variant", named(COMPILED))
def test_threads_change_no_bit(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    for sample in filter(variant.takes, samples(variant.subject.name)):
        results = []
        for threads in ("1", "2", "5"):
            monkeypatch.setenv("OPTPRUNE_THREADS", threads)
            results.append(variant.run(sample.arguments))
        assert same_bits(results[0], results[1])
        assert same_bits(results[0], results[2])


@pytest.mark.parametrize(("one", "other"), [
    pytest.param(a, b, id=f"{a.label}-{b.backend}{'.' * bool(b.isa)}{b.isa}")
    for a, b in itertools.pairwise(COMPILED) if a.subject == b.subject])
def test_compiled_implementations_agree_in_every_bit(one: Variant, other: Variant) -> None:
    """One ascending accumulator an output, samples in the lanes: no instruction set and no compiler changes a bit."""
    for sample in (s for s in samples(one.subject.name) if one.takes(s) and other.takes(s)):
        assert same_bits(one.run(sample.arguments), other.run(sample.arguments)), sample.name


@pytest.mark.parametrize(("subject", "backend"), [
    pytest.param(s, b, id=f"{s.name}-{b}") for s in SUBJECTS for b in s.operation.backends
    if s.operation.missing(b) is not None])
def test_a_missing_backend_says_why(subject: Subject, backend: str) -> None:
    reason = subject.operation.missing(backend)
    assert reason
    if backend == "native" and os.environ.get("OPTPRUNE_REQUIRE_NATIVE") == "1":
        pytest.fail(f"OPTPRUNE_REQUIRE_NATIVE=1, and {reason}")
    with pytest.raises(BackendError) as refused:
        subject.function(*samples(subject.name)[0].arguments, backend=backend)
    assert reason in str(refused.value)


@pytest.mark.parametrize("variant", named([
    v for v in COMPILED if has_floats(samples(v.subject.name)[0].arguments)]))
def test_what_a_backend_does_not_take_it_declines_by_name(variant: Variant) -> None:
    for dtype in (torch.bfloat16, torch.float64):
        sample = samples(variant.subject.name, dtype)[0]
        if not variant.takes(sample):
            name = str(dtype).removeprefix("torch.")
            with pytest.raises(BackendError, match=rf"cannot serve[\s\S]*{variant.backend}: takes float32.*not {name}"):
                variant.run(sample.arguments)


@pytest.mark.parametrize(("subject", "wrong"), [
    pytest.param(s, e, id=f"{s.name}-{e.name}") for s in SUBJECTS for e in error_inputs(s.name)])
def test_wrong_calls_are_refused_by_a_text_that_teaches(subject: Subject, wrong: ErrorInput) -> None:
    with pytest.raises(wrong.error, match=wrong.text):
        subject.function(*wrong.arguments, **wrong.options)
