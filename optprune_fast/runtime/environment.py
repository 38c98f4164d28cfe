"""What variables of the environment say."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable

from optprune_fast.runtime.compiled import NATIVE


def variable(name: str) -> str | None:
    """What `os.environ.get` says, which raises and catches two exceptions where a variable is not set: three such calls
    took a fifth of the time around a small layer.

    >>> variable("OPTPRUNE_NO_SUCH_VARIABLE") is None
    True
    """
    return _reader()(name)


@functools.cache
def _reader() -> Callable[[str], str | None]:
    try:
        module = importlib.import_module(NATIVE)
    except ImportError:
        return os.environ.get
    return getattr(module, "variable", os.environ.get)  # a module of an older version says elsewhere what it is
