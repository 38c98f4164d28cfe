"""The summary at the end of a run, and the run that must fail: a small suite of its own under our conftest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from optprune_fast.runtime import native

TESTS = """
import pytest
from optprune_fast.testing.samples import samples
from optprune_fast.testing.subjects import subjects
from optprune_fast.testing.variants import variants

[SUBJECT] = [s for s in subjects() if s.name == "masked_linear"]

@pytest.mark.parametrize("variant", [v for v in variants(SUBJECT) if v.label not in LEFT_OUT], ids=lambda v: v.label)
def test_run(variant):
    variant.run(samples("masked_linear")[0].arguments)

def test_that_runs_nothing():
    pass
"""
LEFT_OUT = ("masked_linear-native.scalar", "masked_linear-numba")


needs_native = pytest.mark.skipif(not native.isas(), reason=f"needs instruction sets: {native.missing()}")


def run(folder: Path, left_out: tuple[str, ...], *options: str, require: str = "1") -> subprocess.CompletedProcess[str]:
    (folder / "tests").mkdir()
    shutil.copy(Path(__file__).with_name("conftest.py"), folder / "tests")
    (folder / "tests" / "test_small.py").write_text(f"LEFT_OUT = {left_out!r}\n" + TESTS)
    (folder / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    environment = {**os.environ, "OPTPRUNE_REQUIRE_NATIVE": require}
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options], cwd=folder,
                          env=environment, capture_output=True, text=True, check=False)


@needs_native
def test_the_summary_counts_and_a_whole_run_passes(tmp_path: Path) -> None:
    ran = run(tmp_path, ())
    assert ran.returncode == 0, ran.stdout + ran.stderr
    counts = dict(re.findall(r"^([a-z0-9.]+) +(\d+)$", ran.stdout, re.MULTILINE))
    of_the_cpu = {name: count for name, count in counts.items() if name not in ("cuda", "triton")}
    assert of_the_cpu == {"numba": "1", "torch": "1", "native": str(len(native.isas())),
                          **{f"native.{isa}": "1" for isa in native.isas()}}


@needs_native
def test_a_whole_run_that_leaves_a_variant_out_fails_and_names_it(tmp_path: Path) -> None:
    ran = run(tmp_path, LEFT_OUT)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "FAILED: OPTPRUNE_REQUIRE_NATIVE=1, and no test ran on numba, native.scalar" in ran.stdout


def test_a_part_of_a_run_may_leave_variants_out(tmp_path: Path) -> None:
    assert run(tmp_path, LEFT_OUT, "-k", "torch").returncode == 0


def test_without_the_variable_nothing_is_required(tmp_path: Path) -> None:
    assert run(tmp_path, LEFT_OUT, require="").returncode == 0
