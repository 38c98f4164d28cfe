"""Errors that teach: the operation, the arguments as received, the rule broken, the way out."""

from __future__ import annotations

import torch


class BackendError(RuntimeError):
    """No implementation can serve a call, or the one asked for by name cannot."""


class IntegrityError(ValueError):
    """A file is truncated, altered, or not one of ours."""


class FallbackWarning(UserWarning):
    """A call was served by plain torch although faster implementations exist for the operation."""


class EvaluationWarning(UserWarning):
    """An evaluator changed something about how the model runs, and says so."""


class TuningWarning(UserWarning):
    """Training or refitting ended before its time, and says why."""


def describe(value: object) -> str:
    """One short line about an argument as received; of a long one both ends, as a path is told by its last name.

    >>> describe(torch.zeros(2, 3))
    'float32[2, 3] cpu'
    >>> describe("x")
    "'x'"
    >>> describe("/a" * 50 + "/picture.png")[-20:]
    "a/a/a/a/picture.png'"
    """
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{dtype}{list(value.shape)} {value.device}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:38]}...{text[-39:]}"


def message(where: str, rule: str, way_out: str = "", /, **arguments: object) -> str:
    """The one shape of an error text.

    >>> print(message("pack", "x must be boolean", "try x != 0", x=3))
    pack: x must be boolean
      x  3
    try x != 0
    """
    lines = [f"{where}: {rule}"]
    lines += [f"  {name}  {describe(value)}" for name, value in arguments.items()]
    if way_out:
        lines.append(way_out)
    return "\n".join(lines)
