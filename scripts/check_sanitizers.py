"""Run the kernel tests on kernels built with GCC's address and undefined-behaviour sanitizers.

    python scripts/check_sanitizers.py

Builds a wheel of the tracked files in a temporary folder (OPTPRUNE_CUDA=OFF) and lets its compiled module stand in for
the installed one. Needs g++ with libasan and, in the running Python, the packages of the `dev` extra. Linux only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from check_installs import ROOT, copy_tracked

FLAGS = "-g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
TESTS = ("tests/native/test_bits.py", "tests/native/test_isas.py", "tests/native/test_threads.py",
         "tests/native/test_math.py", "tests/native/test_sketches.py", "tests/native/test_topk_threshold.py")

RUN = """
import importlib.util, sys
name = "optprune_fast._native"
spec = importlib.util.spec_from_file_location(name, sys.argv[1])
sys.modules[name] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import pytest
# -s: a sanitizer ends the process, and what pytest has caught by then is lost
sys.exit(pytest.main(["-q", "-s", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


def library(name: str) -> str:
    """Where the compiler keeps a runtime library: the interpreter must load it before anything else."""
    run = subprocess.run(["g++", f"-print-file-name={name}"], check=True, capture_output=True, text=True)
    path = run.stdout.strip()
    if not os.path.isabs(path):
        sys.exit(f"g++ has no {name}: install libasan and libubsan")
    return path


def main() -> int:
    preloaded = ":".join(map(library, ("libasan.so", "libubsan.so", "libstdc++.so")))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", copy_tracked(folder / "source"), "--no-deps", "--no-build-isolation",
             "-q", "-w", folder, "-C", f"cmake.define.CMAKE_CXX_FLAGS={FLAGS}"],
            env={**os.environ, "OPTPRUNE_CUDA": "OFF", "OPTPRUNE_REQUIRE_NATIVE": "1"}, check=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (member,) = [n for n in archive.namelist() if Path(n).name.startswith("_native")]
            module = archive.extract(member, folder)
        # Python itself leaks on purpose at exit, so leaks are not looked for.
        environment = {**os.environ, "LD_PRELOAD": preloaded, "ASAN_OPTIONS": "detect_leaks=0",
                       "UBSAN_OPTIONS": "print_stacktrace=1", "PYTHONMALLOC": "malloc"}
        return subprocess.run([sys.executable, "-c", RUN, module, *TESTS], cwd=ROOT, env=environment,
                              check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
