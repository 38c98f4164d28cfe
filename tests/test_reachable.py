"""Every implementation is in its table, every kernel file is compiled in, and what is asked for is what runs.

Without this, dropping a row from a table would make its tests vanish in silence.
"""

from __future__ import annotations

import importlib
import platform
import re
from pathlib import Path

import pytest
import torch

from optprune_fast.runtime import cuda, native
from optprune_fast.runtime.dispatch import BACKENDS, calls
from optprune_fast.runtime.errors import FallbackWarning
from optprune_fast.testing.samples import samples
from optprune_fast.testing.subjects import Subject, subjects
from optprune_fast.testing.variants import Variant, variants

ROOT = Path(__file__).parents[1]
OPS, KERNELS = ROOT / "optprune_fast" / "ops", ROOT / "csrc" / "kernels"
SUBJECTS = [pytest.param(s, id=s.name) for s in subjects()]
VARIANTS = [v for s in subjects() for v in variants(s)]
BY_VARIANT = [pytest.param(v, id=v.label) for v in VARIANTS]
NATIVE = [pytest.param(v, id=v.label) for v in VARIANTS if v.backend == "native"]
# Kernels of whole networks: test_plan.py and test_look_up.py in tests/engine, and tests/deploy/test_network.py ask for
# each variant.
ENGINE = {"population", "look_up", "moves", "network"}
needs_native = pytest.mark.skipif(native.missing() is not None, reason=f"needs the compiled module: {native.missing()}")


def backends_on_disk(operation: str) -> set[str]:
    return {path.stem.removesuffix("_impl") for path in (OPS / operation).glob("*_impl.py")}


def instruction_sets_on_disk(operation: str) -> set[str]:
    """Kernel files that this machine compiles (cmake/kernels.cmake): the vector ones are for x86-64."""
    found = {path.stem for path in (KERNELS / operation).glob("*.cpp")} & set(native.ISAS)
    return found if platform.machine().lower() in ("x86_64", "amd64") else found & {"scalar"}


def expected_row(variant: Variant) -> str:
    """The fastest kernel of the operation that needs no more than the instruction set asked for."""
    able = native.ISAS[: native.ISAS.index(variant.isa) + 1]
    return next(row for row in native.variants()[variant.subject.name] if row in able)


# ---- files and tables


def test_every_folder_of_ops_is_an_operation_with_its_meaning() -> None:
    folders = {path.name for path in OPS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {s.name for s in subjects()}
    for subject in subjects():
        assert subject.operation.name == subject.name
        assert callable(subject.function)
        reference = importlib.import_module(f"optprune_fast.ops.{subject.name}.reference")
        assert callable(getattr(reference, f"{subject.name}_reference"))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_implementation_is_in_the_table_and_every_row_has_a_file(subject: Subject) -> None:
    assert set(subject.operation.backends) == backends_on_disk(subject.name)
    assert len(set(subject.operation.backends)) == len(subject.operation.backends)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_table_stands_fastest_first_and_ends_in_plain_torch(subject: Subject) -> None:
    assert list(subject.operation.backends) == [b for b in BACKENDS if b in subject.operation.backends]
    assert subject.operation.backends[-1] == "torch"


@pytest.mark.parametrize("subject", SUBJECTS)
def test_an_implementation_has_the_three_functions(subject: Subject) -> None:
    for backend in subject.operation.backends:
        module = subject.operation.implementation(backend)
        assert all(callable(getattr(module, name)) for name in ("missing", "declines", "run"))


def test_a_backend_in_the_table_has_kernels_and_kernels_have_a_backend() -> None:
    for backend, files in (("native", "*/scalar.cpp"), ("cuda", "*/cuda.cu")):
        with_kernels = {path.parent.name for path in KERNELS.glob(files)} - ENGINE
        assert with_kernels == {s.name for s in subjects() if backend in s.operation.backends}, backend


def test_every_kernel_file_is_known_by_its_name() -> None:
    for path in KERNELS.glob("*/*.cpp"):
        assert path.stem in {*native.ISAS, "variants", path.parent.name}, path.name


@needs_native
def test_every_kernel_file_is_compiled_in_and_every_variant_has_a_file() -> None:
    on_disk = {folder.name: instruction_sets_on_disk(folder.name) for folder in KERNELS.iterdir()
               if any(folder.glob("*.cpp"))}
    assert {kernel: set(rows) for kernel, rows in native.variants().items()} == on_disk


@needs_native
def test_variants_stand_fastest_first_and_end_in_scalar() -> None:
    for kernel, rows in native.variants().items():
        assert list(rows) == [isa for isa in reversed(native.ISAS) if isa in rows], kernel
        assert rows[-1] == "scalar"


def test_every_cuda_kernel_is_compiled_in() -> None:
    if cuda._load()[0] is None:
        pytest.skip(f"needs the CUDA module: {cuda.missing()}")
    assert set(cuda.module().operations) == {path.parent.name for path in KERNELS.glob("*/cuda.cu")}


# ---- what is asked for is what runs


@pytest.mark.parametrize("variant", BY_VARIANT)
def test_the_counter_of_the_backend_asked_for_rises_and_no_other(variant: Variant) -> None:
    before = calls.copy()
    variant.run(samples(variant.subject.name)[0].arguments)
    assert calls - before == {(variant.subject.name, variant.backend): 1}


@pytest.mark.parametrize("variant", NATIVE)
def test_the_counter_of_the_instruction_set_asked_for_rises_and_no_other(variant: Variant) -> None:
    before = native.calls()
    variant.run(samples(variant.subject.name)[0].arguments)
    rose = {key: n - before[key] for key, n in native.calls().items() if n > before[key]}
    assert rose == {(variant.subject.name, expected_row(variant)): 1}


@pytest.mark.parametrize("variant", BY_VARIANT)
def test_the_variable_chooses_where_no_argument_does(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTPRUNE_BACKEND", variant.backend)
    if variant.isa:
        monkeypatch.setenv("OPTPRUNE_ISA", variant.isa)
    arguments = samples(variant.subject.name)[0].arguments
    if variant.device != "cpu":
        pytest.skip(f"the {variant.backend} backend takes tensors on a GPU; tests/gpu asks it")
    before, compiled = calls.copy(), native.calls() if variant.isa else {}
    variant.subject.function(*arguments)
    assert calls - before == {(variant.subject.name, variant.backend): 1}
    if variant.isa:
        row = (variant.subject.name, expected_row(variant))
        assert native.calls()[row] == compiled[row] + 1


@pytest.mark.filterwarnings("ignore:(rows|moved)_linear runs in plain torch")  # what is for GPUs alone, on a CPU
@pytest.mark.parametrize("subject", SUBJECTS)
def test_auto_takes_the_fastest_that_is_able(subject: Subject) -> None:
    arguments = samples(subject.name)[0].arguments
    able = [v for v in variants(subject) if v.device == "cpu"]
    before = calls.copy()
    subject.function(*arguments)
    assert calls - before == {(subject.name, able[0].backend): 1}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_backend_without_a_row_is_refused(subject: Subject) -> None:
    for backend in set(BACKENDS) - set(subject.operation.backends):
        with pytest.raises(RuntimeError, match=f"{subject.name} has no {backend} implementation"):
            subject.function(*samples(subject.name)[0].arguments, backend=backend)


@needs_native
@pytest.mark.parametrize("variant", [p for p in NATIVE if p.values[0].isa == "scalar"])
def test_an_instruction_set_that_is_not_there_is_refused(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTPRUNE_ISA", "avx1024")
    arguments = samples(variant.subject.name)[0].arguments
    with pytest.raises(ValueError, match=re.escape("OPTPRUNE_ISA must be one of scalar, avx2, avx512, not 'avx1024'")):
        variant.subject.function(*arguments, backend="native")


def test_a_variable_that_names_no_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTPRUNE_BACKEND", "gpu")
    subject = subjects()[0]
    with pytest.raises(ValueError, match=r"backend must be one of auto, cuda, .*, not 'gpu'"):
        subject.function(*samples(subject.name)[0].arguments)


def test_a_variable_speaks_only_to_operations_that_have_such_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    for subject in subjects():
        for backend in set(BACKENDS) - set(subject.operation.backends):
            monkeypatch.setenv("OPTPRUNE_BACKEND", backend)
            subject.function(*samples(subject.name)[0].arguments)


@pytest.mark.parametrize("subject", [pytest.param(s, id=s.name) for s in subjects() if s.masked])
def test_falling_back_to_plain_torch_is_said_once(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject.operation, "_warned", set())
    arguments = samples(subject.name, torch.bfloat16)[0].arguments
    with pytest.warns(FallbackWarning, match=rf"{subject.name} runs in plain torch because[\s\S]*numba: takes"):
        subject.function(*arguments)
    subject.function(*arguments)  # warnings are errors in our tests, so a second one would fail
    subject.function(*arguments, backend="torch")
