"""Objects with wide instructions share nothing with the rest of the program.

The linker takes one copy of a weak symbol for the whole program. If that copy was compiled for AVX-512, a processor
without it dies in a function that has nothing to do with kernels.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from optprune_fast.runtime import native

ROOT = Path(__file__).parents[2]
OBJECTS = sorted(
    o for isa in native.ISAS for o in ROOT.glob(f"build/*/CMakeFiles/_native.dir/csrc/kernels/*/{isa}.cpp.o"))
NM = shutil.which("nm")

pytestmark = [
    pytest.mark.skipif(NM is None, reason="nm (binutils) is not installed"),
    pytest.mark.skipif(not OBJECTS, reason="no build folder: pip install --no-build-isolation -e . makes one"),
]


def symbols(path: Path) -> list[tuple[str, str]]:
    """(name, type) of each symbol; types as nm has them: U undefined, W and V weak, capitals are visible outside."""
    assert NM is not None
    run = subprocess.run([NM, "--format=posix", path], capture_output=True, text=True, check=True)
    return [(line.split()[0], line.split()[1]) for line in run.stdout.splitlines()]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: f"{path.parent.name}-{path.name.split('.')[0]}")
class TestObject:
    def test_it_has_no_weak_symbol(self, path):
        assert [name for name, kind in symbols(path) if kind in "WVwv"] == []

    def test_it_shows_the_outside_its_kernel_alone(self, path):
        op, isa = path.parent.name, path.name.split(".")[0]
        outside = [name for name, kind in symbols(path) if kind in "ABCDGRST"]
        assert outside == [f"_ZN8optprune{len(op)}{op}{len(isa)}{isa}E"]  # optprune::<op>::<isa>, as compilers spell it


def test_the_check_sees_a_weak_symbol(tmp_path):
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no c++ to compile a bad example with")
    (tmp_path / "bad.cpp").write_text(
        "#include <vector>\nvoid grow(std::vector<int> &v) { v.push_back(1); }\n")
    subprocess.run([compiler, "-c", tmp_path / "bad.cpp", "-o", tmp_path / "bad.o"], check=True)
    assert any(kind in "WV" for _, kind in symbols(tmp_path / "bad.o"))
