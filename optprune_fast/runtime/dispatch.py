"""Which implementation serves a call, and why not the others.

An explicit argument decides, then `OPTPRUNE_BACKEND`, then the fastest implementation that is able.
Only a *stated reason* declines a call: an exception inside an implementation passes through.
"""

from __future__ import annotations

import importlib
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch

from optprune_fast.runtime.environment import variable
from optprune_fast.runtime.errors import BackendError, FallbackWarning, describe

BACKENDS = ("cuda", "triton", "native", "numba", "torch")

# (operation, backend) -> calls served. Tests read it to prove that the variant they name has run.
calls: Counter[tuple[str, str]] = Counter()


@dataclass(frozen=True)
class Choice:
    """The implementation that serves a call, and the reason each faster one gave for declining."""

    backend: str
    run: Callable[..., Any]
    declined: dict[str, str]

    @property
    def reasons(self) -> str:
        """Why not a faster one, on one line."""
        return "; ".join(f"{name}: {reason}" for name, reason in self.declined.items())

    def __str__(self) -> str:
        return f"{self.backend} ({self.reasons})" if self.declined else self.backend


def check_backend(backend: str) -> str:
    """Return `backend` if it is a name we know, else raise a `ValueError` that lists the names."""
    if backend != "auto" and backend not in BACKENDS:
        names = ", ".join(("auto", *BACKENDS))
        raise ValueError(f"backend must be one of {names}, not {backend!r}")
    return backend


@dataclass
class Operation:
    """One operation and its implementations, fastest first.

    Implementation `b` is the module `<package>.<b>_impl`, imported on first need. It has

    - `missing() -> str | None`: why it cannot run on this machine at all;
    - `declines(*arguments) -> str | None`: why it cannot take these arguments;
    - `run(*arguments)`: the work, on arguments that the operation has already checked.

    It may have `OPTIONS`, keywords that the last two take as well; an implementation without such a keyword declines a
    call in which it is given.
    """

    name: str
    package: str
    backends: tuple[str, ...]
    _modules: dict[str, ModuleType] = field(default_factory=dict)
    _warned: set[tuple[str, ...]] = field(default_factory=set)
    _resolved: dict[tuple[torch.dtype, str, str | None], Choice] = field(default_factory=dict)

    def implementation(self, backend: str) -> ModuleType:
        if backend not in self._modules:
            self._modules[backend] = importlib.import_module(f"{self.package}.{backend}_impl")
        return self._modules[backend]

    def reason(self, backend: str, *arguments: object, **options: object) -> str | None:
        """Why `backend` cannot serve this call, or None if it can."""
        if backend not in self.backends:
            return f"{self.name} has no {backend} implementation"
        module = self.implementation(backend)
        for name in options:
            if name not in getattr(module, "OPTIONS", ()):
                return f"has no choice of {name}; leave it out"
        reason: str | None = module.missing() or module.declines(*arguments, **options)
        return reason

    def missing(self, backend: str) -> str | None:
        """Why `backend` cannot run on this machine at all, or None if it can."""
        reason: str | None = self.implementation(backend).missing()
        return reason

    def resolve(self, *arguments: object, backend: str = "auto", **options: object) -> Choice:
        """Choose once; the `run` of the result may then be called often with arguments and options of this kind."""
        check_backend(backend)
        if backend == "auto":
            wish = check_backend(variable("OPTPRUNE_BACKEND") or "auto")
            # The variable speaks to the operations that have such an implementation; the others go on.
            backend = wish if wish in self.backends else "auto"
        if backend != "auto":
            reason = self.reason(backend, *arguments, **options)
            if reason is None:
                return Choice(backend, self.implementation(backend).run, {})
            raise self._refusal(backend, {backend: reason}, arguments)
        declined: dict[str, str] = {}
        for name in self.backends:
            reason = self.reason(name, *arguments, **options)
            if reason is None:
                if name == "torch" and declined:
                    self._warn_once(declined)
                return Choice(name, self.implementation(name).run, declined)
            declined[name] = reason
        raise self._refusal("auto", declined, arguments)

    def serve(self, x: torch.Tensor, *rest: object) -> Any:
        """As a call, for small arguments of which `x` alone decides who serves them: resolved once for its type, its
        device and `OPTPRUNE_BACKEND`."""
        key = (x.dtype, x.device.type, variable("OPTPRUNE_BACKEND"))
        choice = self._resolved.get(key)
        if choice is None:
            choice = self._resolved[key] = self.resolve(x, *rest)
        calls[self.name, choice.backend] += 1
        return choice.run(x, *rest)

    def __call__(self, *arguments: object, backend: str = "auto", **options: object) -> Any:
        choice = self.resolve(*arguments, backend=backend, **options)
        calls[self.name, choice.backend] += 1
        return choice.run(*arguments, **options)

    def _warn_once(self, declined: dict[str, str]) -> None:
        key = tuple(declined.values())
        if key not in self._warned:
            self._warned.add(key)
            reasons = "\n".join(f"  {name}: {reason}" for name, reason in declined.items())
            text = f"{self.name} runs in plain torch because\n{reasons}\nbackend='torch' says that this is wanted."
            warnings.warn(text, FallbackWarning, stacklevel=4)

    def _refusal(self, backend: str, declined: dict[str, str], arguments: tuple[object, ...]) -> BackendError:
        asked = "no implementation can serve" if backend == "auto" else f"backend={backend!r} cannot serve"
        lines = [f"{self.name}: {asked}"]
        lines += [f"  {describe(a)}" for a in arguments if isinstance(a, torch.Tensor)]
        lines.append("because")
        lines += [f"  {name}: {reason}" for name, reason in declined.items()]
        lines.append("`optprune-fast doctor` lists what runs on this machine; backend='torch' always does.")
        return BackendError("\n".join(lines))
