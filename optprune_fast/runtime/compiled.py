"""Loading a compiled module of this package, or the reason why it is not there."""

from __future__ import annotations

import importlib
from types import ModuleType

from optprune_fast.runtime.errors import BackendError, message
from optprune_fast.version import __version__

NATIVE = "optprune_fast._native"


def load(name: str, kind: str, compiler: str, way_out: str) -> tuple[ModuleType | None, str | None]:
    """The module `name`, or the reason why there is none.

    kind, compiler: what the texts call the module, and what makes it

    Raises `BackendError` if the module was built from another version of the package.

    >>> load("optprune_fast._absent", "absent", "compiler", "install one")
    (None, 'this installation has no absent module, so no compiler worked when it was made; install one')
    """
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None, f"this installation has no {kind} module, so no {compiler} worked when it was made; {way_out}"
    except ImportError as error:
        return None, f"the {kind} module does not load ({error}); {way_out}"
    if module.version != __version__:
        raise BackendError(message(
            name, f"the {kind} module belongs to another version of the package",
            "build it again: pip install --no-build-isolation --no-deps -e .",
            package=__version__, compiled=module.version))
    return module, None
