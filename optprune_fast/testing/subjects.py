"""Every operation that there is, found by looking, so that no test can forget one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from optprune_fast import ops
from optprune_fast.runtime.dispatch import Operation


@dataclass(frozen=True)
class Subject:
    """One operation: the package `optprune_fast.ops.<name>`, which holds a function of that name."""

    name: str
    package: ModuleType

    @property
    def operation(self) -> Operation:
        found: Operation = self.package.operation
        return found

    @property
    def function(self) -> Callable[..., Any]:
        """The public function: it checks its arguments and takes `backend=`."""
        found: Callable[..., Any] = getattr(self.package, self.name)
        return found

    @property
    def operator(self) -> Any:
        """What `torch.library` knows it by, or None."""
        return getattr(self.package, "operator", None)

    @property
    def masked(self) -> bool:
        """Whether the function takes `(x, weight, words, …)`: one weight under many masks."""
        return self.name.startswith("masked_")


def subjects() -> list[Subject]:
    """All operations, by name.

    >>> [s.name for s in subjects()][:2]
    ['choose_bits', 'masked_conv2d']
    """
    packages = [importlib.import_module(f"{ops.__name__}.{module.name}")
                for module in pkgutil.iter_modules(ops.__path__) if module.ispkg]
    return [Subject(p.__name__.rpartition(".")[2], p) for p in packages]
