"""The doctor: what runs on this machine, why the rest does not, and how to get it."""

from __future__ import annotations

import difflib
import importlib
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from optprune_fast.runtime import autotune, cuda, native, triton
from optprune_fast.runtime.dispatch import BACKENDS, check_backend
from optprune_fast.runtime.errors import BackendError
from optprune_fast.runtime.threads import thread_count
from optprune_fast.version import __version__

_PACKAGES = ("torch", "numpy", "safetensors", "numba", "triton")


@dataclass(frozen=True)
class Backend:
    """One backend. `detail` says what it uses, or why it does not run and how to get it."""

    name: str
    runs: bool
    detail: str


@dataclass(frozen=True)
class Variable:
    """One `OPTPRUNE_*` variable in force. `problem` is empty where the value is valid; `note` says what it does."""

    name: str
    value: str
    problem: str
    note: str = ""


@dataclass(frozen=True, repr=False)
class Report:
    """What `doctor` found; `str(report)` is a text to read, `report.as_dict()` is ready for JSON."""

    version: str
    python: str
    platform: str
    processor: str
    torch_instructions: str  # the instruction set that torch itself uses
    threads: int
    packages: dict[str, str | None]  # None: not installed
    devices: list[str]
    backends: list[Backend]
    environment: list[Variable]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        packages = ", ".join(f"{name} {version or 'not installed'}" for name, version in self.packages.items())
        facts = {"python": self.python, "platform": self.platform,
                 "processor": f"{self.processor} (torch uses {self.torch_instructions})", "threads": str(self.threads),
                 "packages": packages, "devices": "; ".join(self.devices) or "no CUDA device"}
        lines = [f"optprune_fast {self.version}"]
        lines += [f"  {name:<9}  {fact}" for name, fact in facts.items()]
        lines += ["", "backends, fastest first"]
        lines += [f"  {b.name:<6}  {'runs' if b.runs else 'no  '}  {b.detail}".rstrip() for b in self.backends]
        lines += ["", "environment"]
        lines += [f"  {v.name}={v.value}  {f'INVALID: {v.problem}' if v.problem else v.note}".rstrip()
                  for v in self.environment]
        return "\n".join(lines if self.environment else [*lines, "  no OPTPRUNE_ variable is set"])

    __repr__ = __str__


def doctor() -> Report:
    """Look at this machine and this installation. Nothing is raised for what is missing or wrong: the report says it.

    >>> report = doctor()
    >>> [b.runs for b in report.backends if b.name == "torch"]
    [True]
    """
    backends = [_backend(name) for name in BACKENDS]
    return Report(
        version=__version__,
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        platform=platform.platform(),
        processor=_processor(),
        torch_instructions=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads() if _refusal(thread_count) else thread_count(),
        packages={name: _version(name) for name in _PACKAGES},
        devices=_devices(),
        backends=backends,
        environment=[Variable(name, value, _problem(name, value, backends), _note(name, value))
                     for name, value in sorted(os.environ.items()) if name.startswith("OPTPRUNE_")],
    )


# ---- backends


def _backend(name: str) -> Backend:
    probe, detail = _PROBES[name]
    try:
        reason = probe()
    except BackendError as error:  # compiled for another version of the package
        reason = str(error)
    return Backend(name, reason is None, detail() if reason is None else reason)


def _numba_missing() -> str | None:
    try:  # importing is the only proof: Numba may be there and refuse the numpy beside it
        importlib.import_module("numba")
    except ImportError as error:
        return f"numba cannot be imported ({error}); pip install numba"
    return None


def _native_detail() -> str:
    refusal = _refusal(native.isa)
    in_use = f"refuses to choose an instruction set: {refusal}" if refusal else f"uses {native.isa()}"
    return f"{in_use}; this CPU and this build have {', '.join(native.isas())}"


_PROBES: dict[str, tuple[Callable[[], str | None], Callable[[], str]]] = {
    "cuda": (cuda.missing, lambda: ""),
    "triton": (triton.missing, lambda: "interpreted on the CPU: for tests only" if triton.interpreted() else ""),
    "native": (native.missing, _native_detail),
    "numba": (_numba_missing, lambda: ""),
    "torch": (lambda: None, lambda: "always there"),
}


# ---- environment


def _refusal(check: Callable[[], object]) -> str:
    """What `check` says against the environment, or nothing."""
    try:
        check()
    except ValueError as error:
        return str(error)
    return ""


def _problem(name: str, value: str, backends: list[Backend]) -> str:
    if name not in _VARIABLES:
        near = difflib.get_close_matches(name, _VARIABLES, n=1, cutoff=0.85)  # the prefix alone makes 0.75
        return "nothing reads this name" + (f"; is {near[0]} meant?" if near else f": {', '.join(_VARIABLES)}")
    return _VARIABLES[name](value, backends) if value else ""


def _note(name: str, value: str) -> str:
    chosen = (name, value) == (autotune.VARIABLE, "1")
    return f"launches are chosen by time, and kept in {autotune.path()}" if chosen else ""


def _backend_problem(value: str, backends: list[Backend]) -> str:
    refusal = _refusal(lambda: check_backend(value))
    return refusal or next((f"{value} does not run here: {b.detail}" for b in backends
                            if b.name == value and not b.runs), "")


def _isa_problem(value: str, backends: list[Backend]) -> str:
    if any(b.name == "native" and b.runs for b in backends):
        return _refusal(native.isa)
    return "" if value in native.ISAS else f"OPTPRUNE_ISA must be one of {', '.join(native.ISAS)}, not {value!r}"


def _one_of(*values: str) -> Callable[[str, list[Backend]], str]:
    return lambda value, _: "" if value in values else f"must be one of {', '.join(values)}, not {value!r}"


_VARIABLES: dict[str, Callable[[str, list[Backend]], str]] = {
    "OPTPRUNE_BACKEND": _backend_problem,
    "OPTPRUNE_ISA": _isa_problem,
    autotune.VARIABLE: lambda _value, _backends: _refusal(autotune.on),
    "OPTPRUNE_THREADS": lambda _value, _backends: _refusal(thread_count),
    # The rest is read when the package is built.
    "OPTPRUNE_CUDA": _one_of("AUTO", "ON", "OFF"),
    "OPTPRUNE_CUDA_PROBE": _one_of("ON", "OFF"),
    "OPTPRUNE_REQUIRE_NATIVE": _one_of("0", "1"),
}


# ---- machine


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} logical cores"


def _devices() -> list[str]:
    if not torch.cuda.is_available():
        return []
    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [f"{d.name}, compute capability {d.major}.{d.minor}, {d.total_memory / 2**30:.0f} GiB" for d in found]
