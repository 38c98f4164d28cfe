"""The doctor says what runs, why the rest does not and how to get it, and never fails over what it finds."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from optprune_fast.runtime import native, triton
from optprune_fast.runtime.dispatch import BACKENDS
from optprune_fast.runtime.doctor import Backend, Report, Variable, doctor
from optprune_fast.version import __version__


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPTPRUNE_") or name == "TRITON_INTERPRET"]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_memory_of_what_is_missing() -> Iterator[None]:
    triton.missing.cache_clear()
    yield
    triton.missing.cache_clear()


@pytest.fixture
def no_compiled_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What an installation made without a compiler looks like."""
    monkeypatch.setattr(native, "MODULE", "optprune_fast._not_compiled")
    native._load.cache_clear()
    yield
    monkeypatch.undo()
    native._load.cache_clear()


def backend(report: Report, name: str) -> Backend:
    [found] = [b for b in report.backends if b.name == name]
    return found


def problem(name: str) -> str:
    [found] = [v.problem for v in doctor().environment if v.name == name]
    return found


def test_the_report_is_ready_for_json_and_complete() -> None:
    report = json.loads(json.dumps(doctor().as_dict()))
    assert report["version"] == __version__
    assert report["packages"]["torch"] == torch.__version__
    assert report["threads"] >= 1
    assert tuple(b["name"] for b in report["backends"]) == BACKENDS
    assert report["environment"] == []


def test_the_text_names_every_fact() -> None:
    report = doctor()
    text = str(report)
    assert repr(report) == text
    facts = [report.version, report.python, report.platform, report.processor, *(b.name for b in report.backends),
             *(b.detail for b in report.backends), *report.packages, "no OPTPRUNE_ variable is set"]
    for fact in facts:
        assert fact in text


def test_every_backend_that_does_not_run_says_why() -> None:
    for b in doctor().backends:
        assert b.runs or b.detail
    assert backend(doctor(), "torch").runs


@pytest.mark.usefixtures("no_compiled_module")
def test_without_the_compiled_module_the_way_to_get_it_is_shown() -> None:
    found = backend(doctor(), "native")
    assert not found.runs
    assert "no compiled module" in found.detail
    assert "install a C++ compiler" in found.detail
    assert "pip install" in found.detail
    assert f"native  no    {found.detail}" in str(doctor())


def test_a_module_compiled_for_another_version_is_reported_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optprune_fast._other", SimpleNamespace(version="0.0.0"))
    monkeypatch.setattr(native, "MODULE", "optprune_fast._other")
    native._load.cache_clear()
    found = backend(doctor(), "native")
    native._load.cache_clear()
    assert not found.runs
    assert "belongs to another version of the package" in found.detail


def test_the_compiled_module_says_which_instructions_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_load", lambda: (SimpleNamespace(isas=lambda: ["scalar", "avx2"]), None))
    assert backend(doctor(), "native").detail == "uses avx2; this CPU and this build have scalar, avx2"
    monkeypatch.setenv("OPTPRUNE_ISA", "scalar")
    assert backend(doctor(), "native").detail.startswith("uses scalar; ")
    assert problem("OPTPRUNE_ISA") == ""
    monkeypatch.setenv("OPTPRUNE_ISA", "avx512")
    assert "this CPU and this build run scalar, avx2 only" in problem("OPTPRUNE_ISA")
    assert "refuses to choose an instruction set" in backend(doctor(), "native").detail


@pytest.mark.parametrize(("package", "way_out"), [("numba", "pip install numba"), ("triton", "pip install triton")])
def test_a_package_that_is_not_there_is_named(package: str, way_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # what Triton needs first
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setitem(sys.modules, package, None)
    found = backend(doctor(), package)
    assert not found.runs
    assert f"{package} cannot be imported (" in found.detail
    assert way_out in found.detail


def test_a_package_without_a_version_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optprune_fast.runtime.doctor._PACKAGES", ("torch", "no-such-package-of-ours"))
    report = doctor()
    assert report.packages == {"torch": torch.__version__, "no-such-package-of-ours": None}
    assert "no-such-package-of-ours not installed" in str(report)


@pytest.mark.parametrize(("built_with", "reason"), [(None, "this torch is built without CUDA"),
                                                    ("13.0", "torch sees no CUDA device")])
def test_triton_needs_a_device(built_with: str | None, reason: str,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_with)
    found = backend(doctor(), "triton")
    assert not found.runs
    assert reason in found.detail


def test_an_interpreted_triton_is_for_tests_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(triton, "interpreter_fault", lambda: None)
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace())
    assert backend(doctor(), "triton") == Backend("triton", True, "interpreted on the CPU: for tests only")
    monkeypatch.setattr(triton, "interpreter_fault", lambda: "a fault")
    triton.missing.cache_clear()
    assert backend(doctor(), "triton") == Backend("triton", False, "a fault")


def test_devices_are_listed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(name="Some GPU", major=9, minor=0, total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: device)
    report = doctor()
    assert report.devices == ["Some GPU, compute capability 9.0, 80 GiB"]
    assert "Some GPU" in str(report)


@pytest.mark.parametrize(("name", "value"), [
    ("OPTPRUNE_BACKEND", "torch"), ("OPTPRUNE_BACKEND", "auto"), ("OPTPRUNE_BACKEND", ""), ("OPTPRUNE_THREADS", "3"),
    ("OPTPRUNE_CUDA", "OFF"), ("OPTPRUNE_CUDA_PROBE", "OFF"), ("OPTPRUNE_REQUIRE_NATIVE", "1"),
])
def test_a_valid_variable_is_listed_without_a_problem(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    report = doctor()
    assert report.environment == [Variable(name, value, "")]
    assert f"{name}={value}" in str(report)
    assert "INVALID" not in str(report)


@pytest.mark.parametrize(("name", "value", "text"), [
    ("OPTPRUNE_BACKEND", "gpu", "backend must be one of auto, cuda, triton, native, numba, torch, not 'gpu'"),
    ("OPTPRUNE_THREADS", "0", "OPTPRUNE_THREADS must be a whole number of at least 1, not '0'"),
    ("OPTPRUNE_THREADS", "two", "not 'two'"),
    ("OPTPRUNE_CUDA", "yes", "must be one of AUTO, ON, OFF, not 'yes'"),
    ("OPTPRUNE_THREAD", "2", "nothing reads this name; is OPTPRUNE_THREADS meant?"),
    ("OPTPRUNE_ZZZ", "1", "nothing reads this name: OPTPRUNE_BACKEND, OPTPRUNE_ISA, OPTPRUNE_AUTOTUNE, "),
])
def test_an_invalid_variable_is_flagged(name: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert text in problem(name)
    assert f"{name}={value}  INVALID: " in str(doctor())
    assert doctor().threads >= 1


@pytest.mark.usefixtures("no_compiled_module")
def test_wishes_for_a_backend_that_does_not_run_are_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTPRUNE_BACKEND", "native")
    assert problem("OPTPRUNE_BACKEND").startswith("native does not run here: ")
    monkeypatch.setenv("OPTPRUNE_ISA", "avx512")
    assert problem("OPTPRUNE_ISA") == ""
    monkeypatch.setenv("OPTPRUNE_ISA", "sse")
    assert problem("OPTPRUNE_ISA") == "OPTPRUNE_ISA must be one of scalar, avx2, avx512, not 'sse'"
