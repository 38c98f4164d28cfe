"""One sentence that says what the search was worth."""

from __future__ import annotations

import statistics
from typing import Any

Document = dict[str, Any]
NOTHING = "loses nothing"


def headline(made: Document) -> dict[str, str]:
    """What the first figure and the verdict are about: accuracy before loss, and the most honest part there is."""
    for quantity in ("accuracy", "loss"):
        for part in ("test", "validation", "calibration"):
            if any(row["quantity"] == quantity and row["part"] == part for row in made["curves"]):
                return {"quantity": quantity, "part": part}
    raise AssertionError("a result has a fitness")


def means(made: Document, sparsity: float, part: str, quantity: str) -> dict[str, float]:
    """{method: mean} of one sparsity."""
    return {str(row["method"]): float(row["mean"]) for row in made["curves"]
            if (row["sparsity"], row["part"], row["quantity"]) == (sparsity, part, quantity)}


def best_method(made: Document, sparsity: float) -> str:
    """The search with the lowest mean loss on the validation part. Test data choose nothing, not even what is shown."""
    losses = means(made, sparsity, "validation", "loss")
    searches: list[str] = made["methods"]
    return min((name for name in searches if name in losses), key=lambda name: losses[name])


def verdict(made: Document) -> str:
    """About the middle one of the sparsities; magnitude pruning is that of the same networks and seeds."""
    rates = made["sparsities"]
    rate = rates[len(rates) // 2]
    best = best_method(made, rate)
    part, quantity = made["headline"]["part"], made["headline"]["quantity"]
    found = _paired(made, rate, best, part, quantity)
    if not found:  # the networks of this method were not given
        part, quantity = "validation", "loss"
        found = _paired(made, rate, best, part, quantity)
    start = f"At {100 * rate:g} % sparsity the optimizer's mask"
    if quantity == "accuracy":
        kept, large = (_lost(100 * (found["dense"] - found[name])) for name in ("optimized", "magnitude"))
        if kept == large:
            return f"{start} {kept} of {part} accuracy, as magnitude does."
        if kept.startswith("loses") and large.startswith("loses") and large != NOTHING:
            large = large.removeprefix("loses ").removesuffix(" points")
        return f"{start} {kept} of {part} accuracy, magnitude {large}."
    return f"{start} has a {part} loss of {_number(found['optimized'])}, magnitude {_number(found['magnitude'])}."


def _paired(made: Document, rate: float, best: str, part: str, quantity: str) -> dict[str, float]:
    """{"optimized", "magnitude" and, where it was evaluated, "dense": mean} over the networks and seeds of `best`."""
    rows = [row for row in made["measures"]
            if (row["sparsity"], row["part"]) == (rate, part) and row[quantity] is not None]
    own = {(row["network"], row["seed"]): row[quantity] for row in rows
           if row["run"] is not None and made["runs"][row["run"]]["method"] == best}
    values = {"optimized": list(own.values())}
    for name in ("magnitude", "dense"):
        values[name] = [row[quantity] for row in rows
                        if row["method"] == name and (row["network"], row["seed"]) in own]
    return {name: statistics.fmean(some) for name, some in values.items() if some} if own else {}


def _lost(points: float) -> str:
    """
    >>> _lost(1.23), _lost(-0.26), _lost(0.01), _lost(1.04)
    ('loses 1.2 points', 'gains 0.3 points', 'loses nothing', 'loses 1.0 points')
    """
    text = f"{abs(points):.1f} points"
    if text == "0.0 points":
        return NOTHING
    return f"loses {text}" if points > 0 else f"gains {text}"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
