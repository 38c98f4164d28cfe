"""Every kernel file is in its table, and the build refuses a file whose name says nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys

import pytest

from optprune_fast.runtime import native

CMAKE = shutil.which("cmake", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]))
X86 = platform.machine().lower() in ("x86_64", "amd64")


def test_the_tables_hold_every_kernel_file(compiled, root):
    """Without this a row that is dropped from a table takes its tests along in silence."""
    built = native.ISAS if X86 else ("scalar",)
    files = {folder.name: {file.stem for file in folder.glob("*.cpp") if file.stem in built}
             for folder in (root / "csrc/kernels").iterdir() if any(folder.glob("*.cpp"))}  # others are CUDA's alone
    assert {kernel: set(rows) for kernel, rows in native.variants().items()} == files
    assert all(files.values())


def test_rows_stand_fastest_first_and_scalar_last(compiled):
    for rows in native.variants().values():
        assert list(rows) == sorted(rows, key=native.ISAS.index, reverse=True)
        assert rows[-1] == "scalar"


@pytest.mark.skipif(CMAKE is None, reason="cmake is not installed")
@pytest.mark.parametrize(("name", "accepted"), [("scalar.cpp", True), ("variants.cpp", True), ("my_op.cpp", True),
                                                ("avx1024.cpp", False), ("helper.cpp", False)])
def test_the_build_refuses_a_kernel_file_of_unknown_name(root, tmp_path, name, accepted):
    folder = tmp_path / "csrc/kernels/my_op"
    folder.mkdir(parents=True)
    (folder / name).touch()
    (tmp_path / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.24)\nproject(names LANGUAGES NONE)\n"
        f'include("{(root / "cmake/kernels.cmake").as_posix()}")\n')
    run = subprocess.run([CMAKE, "-S", tmp_path, "-B", tmp_path / "build"], capture_output=True, text=True, check=False)
    assert (run.returncode == 0) is accepted, run.stderr
    if not accepted:
        assert "no such instruction set" in run.stderr
