"""Build the package as each kind of machine would, and assert what the wheel holds and what the doctor then says.

    python scripts/check_installs.py            every case; those that need an nvcc say so where there is none
    python scripts/check_installs.py --cheap    the cases that take seconds, and one build of the C++ kernels
    python scripts/check_installs.py no_cxx …   these alone

Works on a copy of the tracked files in a temporary folder; nothing is installed. Needs git, g++ and, in the running
Python, the packages of the `dev` extra.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++")

# Run in a fresh interpreter on the unpacked wheel. An editable installation of this environment would come first.
PROBE = """
import json, sys
sys.meta_path[:] = [f for f in sys.meta_path if not type(f).__module__.startswith("_editable_")]
sys.path.insert(0, sys.argv[1])
import torch, optprune_fast
assert optprune_fast.__file__.startswith(sys.argv[1]), optprune_fast.__file__
from optprune_fast.ops.masked_linear import masked_linear, operation
from optprune_fast.runtime.doctor import doctor
call = torch.ones(2, 3), torch.ones(1, 3), torch.tensor([[[0b101]]])
print(json.dumps({"served_by": operation.resolve(*call).backend, "sums": masked_linear(*call).flatten().tolist(),
                  "backends": {b.name: [b.runs, b.detail] for b in doctor().backends}}))
"""


@dataclass(frozen=True)
class Case:
    """One machine. `modules` None: the build must fail, with `said` in its output."""

    name: str
    environment: dict[str, str]
    modules: tuple[str, ...] | None
    said: str = ""
    doctor: dict[str, str] = field(default_factory=dict)  # backend -> a pattern of its line
    settings: tuple[str, ...] = ()  # of the build
    cheap: bool = False
    needs_nvcc: bool = False


class Failure(Exception):
    """What a case shows that it must not."""


def cases(tools: Path) -> Iterator[Case]:
    """tools: folders with programs that fail, one set for each kind of machine."""
    no_compiler = {"PATH": joined(tools / "no_cxx", without("nvcc")), "CC": str(tools / "no_cxx/cc"),
                   "CXX": str(tools / "no_cxx/c++")}
    broken_nvcc = {"CUDACXX": str(tools / "bad_nvcc/nvcc")}
    pure = {"native": r"no compiled module.*install a C\+\+ compiler \(g\+\+ or clang\+\+\).*pip install"}
    no_cuda = {"native": "uses ", "cuda": r"no CUDA module.*install the CUDA toolkit"}
    yield Case("no_cxx", no_compiler, (), doctor=pure, cheap=True)
    yield Case("no_cxx_but_required", {**no_compiler, "OPTPRUNE_REQUIRE_NATIVE": "1"}, None,
               "CMake configuration failed", cheap=True)
    yield Case("broken_nvcc_but_required", {**broken_nvcc, "OPTPRUNE_CUDA": "ON"}, None,
               "OPTPRUNE_CUDA=ON, but no CUDA compiler works", cheap=True)
    yield Case("no_nvcc", {"PATH": without("nvcc"), "OPTPRUNE_CUDA_PROBE": "OFF"}, ("_native",), doctor=no_cuda)
    yield Case("other_processor", {"OPTPRUNE_CUDA": "OFF"}, ("_native",),
               doctor={"native": "uses scalar; this CPU and this build have scalar$"},
               settings=("cmake.define.OPTPRUNE_SCALAR_ONLY=ON",), cheap=True)
    yield Case("broken_nvcc", broken_nvcc, ("_native",), doctor=no_cuda)
    both = ("_cuda", "_native")
    yield Case("nvcc", {"OPTPRUNE_CUDA": "ON"}, both, doctor={"native": "uses "}, needs_nvcc=True)
    yield Case("nvcc_off_path", {"PATH": without("nvcc")}, both, needs_nvcc=True)
    yield Case("broken_nvcc_first_on_path", {"PATH": joined(tools / "bad_nvcc", os.environ["PATH"])}, both,
               needs_nvcc=True)


def joined(*parts: Path | str) -> str:
    return os.pathsep.join(map(str, parts))


def without(program: str) -> str:
    """PATH without the folders that hold `program`."""
    folders = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(f for f in folders if f and not (Path(f) / program).exists())


def make_tools(folder: Path) -> Path:
    for kind, names, text in (("no_cxx", COMPILERS, "exit 1"),
                              ("bad_nvcc", ("nvcc",), "echo '#error -- unsupported GNU version' >&2; exit 1")):
        (folder / kind).mkdir(parents=True)
        for name in names:
            (folder / kind / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / kind / name).chmod(0o755)
    return folder


def copy_tracked(target: Path) -> Path:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():  # a file that is deleted but not committed is still listed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def check(case: Case, folder: Path) -> str:
    """Build and try the case; returns a line about it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OPTPRUNE_", "CUDA")) and k not in ("CC", "CXX")}
    environment = {**clean, "PYTHONDONTWRITEBYTECODE": "1", **case.environment}
    source = copy_tracked(folder / "source")
    build = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", source, "--no-deps", "--no-build-isolation", "-v", "-w", folder,
         *(f"--config-settings={setting}" for setting in case.settings)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if case.modules is None:
        if build.returncode == 0:
            raise Failure("the build passed and must fail")
        if case.said not in build.stdout:
            raise Failure(f"the build failed without saying {case.said!r}:\n{build.stdout[-3000:]}")
        return "the build failed, as it must"
    if build.returncode != 0:
        raise Failure(f"the build failed:\n{build.stdout[-3000:]}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(folder / "site")
    modules = tuple(sorted(Path(n).name.split(".")[0] for n in names if n.endswith((".so", ".pyd"))))
    if modules != case.modules:
        raise Failure(f"{wheel.name} holds the modules {modules}, not {case.modules}")
    if wheel.name.endswith("-none-any.whl") is not (modules == ()):
        raise Failure(f"{wheel.name} has the wrong tag for the modules {modules}")
    if stray := [n for n in names if not n.startswith("optprune_fast")]:
        raise Failure(f"{wheel.name} holds {stray}")
    return f"{wheel.name} {try_out(case, folder / 'site', environment)}"


def try_out(case: Case, site: Path, environment: dict[str, str]) -> str:
    run = subprocess.run([sys.executable, "-c", PROBE, site], env=environment, cwd=site, capture_output=True, text=True,
                         check=False)
    if run.returncode != 0:
        raise Failure(f"the installed package fails:\n{run.stderr[-3000:]}")
    seen = json.loads(run.stdout)
    if seen["sums"] != [2.0, 2.0]:
        raise Failure(f"masked_linear gives {seen['sums']}, not [2.0, 2.0]")
    served_by = "native" if case.modules else "numba"
    if seen["served_by"] != served_by:
        raise Failure(f"calls are served by {seen['served_by']}, not by {served_by}")
    for backend, pattern in case.doctor.items():
        if not re.search(pattern, seen["backends"][backend][1]):
            raise Failure(f"the doctor says of {backend}: {seen['backends'][backend][1]!r}; wanted {pattern!r}")
    return f"served by {served_by}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="names; default: all")
    parser.add_argument("--cheap", action="store_true", help="only the cases that are quick to build")
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        known = list(cases(make_tools(Path(temporary) / "tools")))
        if unknown := set(arguments.cases) - {case.name for case in known}:
            parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(case.name for case in known)}")
        for case in known:
            if (arguments.cheap and not case.cheap) or (arguments.cases and case.name not in arguments.cases):
                continue
            if case.needs_nvcc and shutil.which("nvcc") is None:
                print(f"not run  {case.name}: no nvcc on PATH")
                continue
            start = time.monotonic()
            try:
                said, mark = check(case, Path(temporary) / case.name), "ok     "
            except Failure as failure:
                said, mark = str(failure), "FAILED "
                failed += 1
            print(f"{mark}  {case.name} ({time.monotonic() - start:.0f} s): {said}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
