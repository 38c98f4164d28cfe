"""The compiled module `_native`: whether it is here, why not, and which instruction set it uses."""

from __future__ import annotations

import functools
from types import ModuleType

from optprune_fast.runtime.compiled import NATIVE, load
from optprune_fast.runtime.environment import variable
from optprune_fast.runtime.errors import BackendError

MODULE = NATIVE
ISAS = ("scalar", "avx2", "avx512")

_WAY_OUT = ("install a C++ compiler (g++ or clang++), then: OPTPRUNE_REQUIRE_NATIVE=1 pip install --force-reinstall "
            "--no-deps --no-cache-dir --no-binary optprune-fast optprune-fast (in a clone: the path of the clone)")


@functools.cache
def _load() -> tuple[ModuleType | None, str | None]:
    """The module, or the reason why there is none."""
    return load(MODULE, "compiled", "C++ compiler", _WAY_OUT)


@functools.cache
def _kernels() -> frozenset[str]:
    """Those of the module: every call asks, and the module counts all its variants anew for an answer."""
    found, _ = _load()
    return frozenset(() if found is None else found.variants())


def missing(kernel: str = "") -> str | None:
    """Why `kernel` cannot run on this machine, or None if it can; without a name, why nothing compiled can.

    Raises `BackendError` if the compiled module was built from another version of the package.

    >>> missing("no_such_kernel") is None
    False
    """
    module, reason = _load()
    if module is not None and kernel and kernel not in _kernels():
        return f"the compiled module has no {kernel}; build it again: pip install --no-build-isolation --no-deps -e ."
    return reason


def module() -> ModuleType:
    """The compiled module; raises `BackendError` with the reason where there is none."""
    found, reason = _load()
    if found is None:
        raise BackendError(f"{MODULE}: {reason}")
    return found


def isas() -> tuple[str, ...]:
    """Instruction sets that this build and this CPU have, narrowest first; empty without a compiled module."""
    found, _ = _load()
    return () if found is None else tuple(found.isas())


def isa() -> str:
    """The instruction set in use: `OPTPRUNE_ISA` where it is set, else the widest that this CPU has.

    Raises `ValueError` for a name that we do not know or that this CPU lacks.
    """
    able = module().isas()
    wish = variable("OPTPRUNE_ISA")
    if not wish:
        return str(able[-1])
    if wish not in ISAS:
        raise ValueError(f"OPTPRUNE_ISA must be one of {', '.join(ISAS)}, not {wish!r}")
    if wish not in able:
        raise ValueError(f"OPTPRUNE_ISA={wish}: this CPU and this build run {', '.join(able)} only")
    return wish


def variants() -> dict[str, tuple[str, ...]]:
    """Kernel -> the instruction sets it is compiled for, fastest first."""
    return {kernel: tuple(rows) for kernel, rows in module().variants().items()}


def calls() -> dict[tuple[str, str], int]:
    """(kernel, instruction set) -> calls served since the start of the process, counted by the kernels themselves."""
    return {(kernel, row): n for kernel, rows in module().variants().items() for row, n in rows.items()}
