"""Public names that are fixed but not built yet. Each says what is coming; none is a silent stub."""

from __future__ import annotations

from typing import Any, NoReturn

from optprune_fast.runtime.errors import coming


def load(*arguments: Any, **options: Any) -> NoReturn:
    """Load sparse weights into modules that run them. Raises `NotImplementedError` today."""
    raise coming("load", "sparse modules come next; opf.export and formats.file.read work today")


def convert(*arguments: Any, **options: Any) -> NoReturn:
    """Turn a model's layers into sparse ones without a file. Raises `NotImplementedError` today."""
    raise coming("convert", "sparse modules come next; result.apply_to(model) works today")
