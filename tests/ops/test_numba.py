"""What is special about the Numba implementations: compiling, caching, threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from optprune_fast.ops import numba_support
from optprune_fast.testing.samples import samples
from optprune_fast.testing.subjects import subjects
from optprune_fast.testing.variants import Variant, same_bits, variants

numba = pytest.importorskip("numba", reason="needs numba")
VARIANTS = [pytest.param(v, id=v.label) for s in subjects() for v in variants(s) if v.backend == "numba"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_several_python_threads_may_call_at_once(variant: Variant) -> None:
    chosen = [s for s in samples(variant.subject.name) if variant.takes(s)][:6]
    expected = [variant.subject.function(*s.arguments, backend="numba") for s in chosen]
    wrong: list[str] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for _ in range(10):
            for sample, result in zip(chosen, expected, strict=True):
                if not same_bits(variant.subject.function(*sample.arguments, backend="numba"), result):
                    wrong.append(sample.name)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.parametrize("wish", ["1", "2", "1000000"])
def test_threads_are_those_asked_for_and_never_more_than_numba_has(wish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTPRUNE_THREADS", wish)
    with numba_support.threads():
        assert numba.get_num_threads() == min(int(wish), numba.config.NUMBA_NUM_THREADS)


def test_the_number_of_threads_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = numba.get_num_threads()
    monkeypatch.setenv("OPTPRUNE_THREADS", "1")
    with pytest.raises(ZeroDivisionError), numba_support.threads():
        1 / 0  # noqa: B018
    assert numba.get_num_threads() == before
    with numba_support.threads():  # and the lock is free
        assert numba.get_num_threads() == 1


def test_a_kernel_compiles_where_no_folder_can_hold_a_cache() -> None:
    scope: dict[str, object] = {}
    exec("def twice(x):\n    return x + x", scope)  # Numba finds no folder for a function without a file
    twice = scope["twice"]
    with pytest.raises(RuntimeError, match="cannot cache function"):
        numba.njit(cache=True)(twice)
    assert numba_support.compiled(twice)(3) == 6  # type: ignore[arg-type]


def test_one_compilation_serves_every_layout() -> None:
    from optprune_fast.ops.masked_linear.numba_impl import _masked_linear

    [subject] = [s for s in subjects() if s.name == "masked_linear"]
    for sample in samples(subject.name):
        subject.function(*sample.arguments, backend="numba")
    floats = [str(signature[1].dtype) for signature in _masked_linear.signatures]
    assert floats.count("float32") == 1


def test_inputs_that_want_gradients_are_served() -> None:
    [subject] = [s for s in subjects() if s.name == "masked_linear"]
    x, weight, words = samples(subject.name)[0].arguments
    leaf = weight.clone().requires_grad_()
    subject.function(x, leaf, words, backend="numba").sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.any()


def test_where_numba_cannot_be_imported_the_next_backend_serves_and_the_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 1.26 or less')\n")
    code = """
import torch, warnings
from optprune_fast.ops.masked_linear import masked_linear, operation
from optprune_fast.runtime.errors import BackendError, FallbackWarning
arguments = torch.ones(1, 1).double(), torch.ones(1, 1).double(), torch.ones(1, 1, 1, dtype=torch.int64)
assert operation.missing("numba") == \
    "Numba cannot be imported (Numba needs NumPy 1.26 or less); pip install numba", operation.missing("numba")
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    assert masked_linear(*arguments).item() == 1
assert [w.category for w in told] == [FallbackWarning] and "Numba needs NumPy" in str(told[0].message), told
try:
    masked_linear(*arguments, backend="numba")
except BackendError as error:
    assert "Numba needs NumPy" in str(error)
else:
    raise AssertionError("not refused")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                         env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}", "PATH": ""})
    assert ran.returncode == 0, ran.stderr
