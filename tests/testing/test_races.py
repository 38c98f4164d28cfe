"""The sanitizer is asked for each kind of fault, and what it says is passed on; here one that is no sanitizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from optprune_fast.runtime import cuda
from optprune_fast.testing import races


@pytest.fixture
def sanitizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Writes down how it is called, and finds a race."""
    path = tmp_path / "compute-sanitizer"
    path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
                    'if [ "$2" = racecheck ]; then echo "1 hazard displayed"; exit 9; fi\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(cuda, "missing", lambda: None)
    return tmp_path / "calls"


def test_each_tool_watches_the_samples_and_a_fault_is_passed_on(sanitizer: Path) -> None:
    assert [races.race_fault(tool) for tool in races.TOOLS] == [
        None, "compute-sanitizer racecheck: exit code 9: 1 hazard displayed", None]
    calls = sanitizer.read_text().splitlines()
    assert [call.split()[1] for call in calls] == list(races.TOOLS)
    assert all("--error-exitcode 9" in call and call.endswith("-m optprune_fast.testing.races") for call in calls)


def test_a_sanitizer_that_refuses_the_device_finds_no_fault(sanitizer: Path) -> None:
    (sanitizer.parent / "compute-sanitizer").write_text('#!/bin/sh\necho "Error: Device not supported."; exit 1\n')
    with pytest.raises(races.CannotWatch, match=r"^compute-sanitizer memcheck: Device not supported$"):
        races.race_fault("memcheck")


def test_without_a_sanitizer_or_a_device_it_says_why(sanitizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert races.sanitizer_missing() is None
    monkeypatch.setattr(cuda, "missing", lambda: "there is no driver here")
    assert races.sanitizer_missing() == "no CUDA kernels to watch: there is no driver here"
    monkeypatch.setattr(cuda, "missing", lambda: None)
    monkeypatch.setenv("PATH", "/nowhere")
    assert races.sanitizer_missing().startswith("no compute-sanitizer on PATH, so races of CUDA kernels")


def test_samples_of_every_operation_that_has_the_backend_run() -> None:
    assert races.run_samples("cpu", "numba") > 20
    assert races.run_samples("cpu", "cuda") == 0
