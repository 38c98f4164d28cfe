"""Student's paired t test, for the few networks of a study, in plain Python."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def paired_t(a: Sequence[float], b: Sequence[float]) -> float | None:
    """The two-sided p of "the mean of `a - b` is zero"; None for less than two pairs, or differences all alike.

    >>> round(paired_t([1.0, 2.0, 4.0], [0.0, 0.0, 0.0]), 4)
    0.1181
    """
    differences = [x - y for x, y in zip(a, b, strict=True)]
    if len(differences) < 2 or not (spread := statistics.stdev(differences)):
        return None
    return t_tails(statistics.mean(differences) / (spread / math.sqrt(len(differences))), len(differences) - 1)


def t_tails(t: float, freedom: int) -> float:
    """The probability that Student's t lies further from zero: finite sums for whole degrees of freedom [1].

    [1] Abramowitz, Stegun: Handbook of Mathematical Functions, 26.7.3 and 26.7.4.

    >>> round(t_tails(12.706, 1), 4), round(t_tails(4.303, 2), 4), round(t_tails(2.776, 4), 4)
    (0.05, 0.05, 0.05)
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for i in range(odd, freedom - 1, 2):
        total += term
        term *= (i + 1) / (i + 2) * cosine**2
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return max(0.0, 1 - within)
