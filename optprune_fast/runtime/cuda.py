"""The compiled module `_cuda`: whether it is here, whether it finds a device, and why not."""

from __future__ import annotations

import functools
from types import ModuleType

from optprune_fast.runtime.compiled import load
from optprune_fast.runtime.errors import BackendError

MODULE = "optprune_fast._cuda"

_WAY_OUT = ("install the CUDA toolkit (nvcc), then: OPTPRUNE_CUDA=ON pip install --force-reinstall --no-deps "
            "--no-cache-dir --no-binary optprune-fast optprune-fast (in a clone: the path of the clone)")


@functools.cache
def _load() -> tuple[ModuleType | None, str | None]:
    """The module, or the reason why there is none."""
    return load(MODULE, "CUDA", "nvcc", _WAY_OUT)


def missing(kernel: str = "") -> str | None:
    """Why `kernel` cannot run on this machine, or None if it can; without a name, why nothing of the module can.

    Raises `BackendError` if the module was built from another version of the package.

    >>> missing("no_such_kernel") is None
    False
    """
    module, reason = _load()
    if module is None:
        return reason
    if kernel and kernel not in module.operations:
        return f"the CUDA module has no {kernel}; build it again: pip install --no-build-isolation --no-deps -e ."
    return _no_device()


@functools.cache
def _no_device() -> str | None:
    found = module()
    if found.device_count():
        return None
    error, driver = found.device_error() or "there is none", found.driver_version()
    here = f"the driver here serves {version(driver)}" if driver else "there is no driver here"
    return (f"the CUDA module finds no device: {error} (it needs a driver for CUDA {version(found.runtime_version())}, "
            f"{here})")


def version(number: int) -> str:
    """A version as CUDA counts it, in words.

    >>> version(12080)
    '12.8'
    """
    return f"{number // 1000}.{number % 1000 // 10}"


def module() -> ModuleType:
    """The compiled module; raises `BackendError` with the reason where there is none."""
    found, reason = _load()
    if found is None:
        raise BackendError(f"{MODULE}: {reason}")
    return found
