"""The study's rows of one method over the seeds, against dense and magnitude of the same networks."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.study.paired import paired_t
from benchmarks.study.plan import DENSE, MAGNITUDE

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """Accuracies are fractions, of test data; means over the `n` seeds that have all that is compared.

    spread:       sample standard deviation; None for one network
    below_dense:  the same networks, unpruned and not tuned, less this
    gain:         beyond magnitude pruning, tuned as long; None for dense networks, and magnitude itself
    p, better:    paired t test of the gain, and on how many networks it is positive
    won_back:     share of what magnitude lost, (this - magnitude) / (dense - magnitude); None where it lost nothing
    kept_small:   share of the kept weights
    validation_loss less calibration_loss is what the search, and the training before it, over-fitted
    """

    network: str
    method: str
    of: str | None
    small: float | None
    sparsity: float
    limit: str
    tuned: int
    n: int
    mean: float
    spread: float | None
    below_dense: float
    won_back: float | None
    gain: float | None
    p: float | None
    better: int
    kept_small: float
    calibration_loss: float
    validation_loss: float
    seconds: float | None
    evaluations: float | None
    screened: float | None
    gradient_passes: float | None


def limit_of(row: Row) -> str:
    if row["seconds"] is not None:
        return f"{row['seconds']:g} s each"
    return "" if row["evaluations"] is None else f"{row['evaluations']} evaluations each"


def summaries(rows: Sequence[Row]) -> list[Summary]:
    groups: dict[tuple[Any, ...], dict[int, Row]] = {}
    for row in rows:
        key = (row["network"], row["method"], row["of"], row["small"], row["sparsity"], limit_of(row), row["tuned"])
        groups.setdefault(key, {})[row["seed"]] = row
    found = []
    for key, own in groups.items():
        network, method, *_, sparsity, _, tuned = key
        dense = groups[network, DENSE, None, None, 0.0, "", 0]
        plain = groups.get((network, MAGNITUDE, None, None, sparsity, "", tuned), {})
        compared = not (method in (DENSE, MAGNITUDE) or own.keys() - plain.keys())
        found.append(_summary(key, own, dense, plain if compared else None))
    return found


def _summary(key: tuple[Any, ...], own: Mapping[int, Row], dense: Mapping[int, Row],
             plain: Mapping[int, Row] | None) -> Summary:
    def accuracies(of: Mapping[int, Row]) -> list[float]:
        return [of[seed]["test_accuracy"] for seed in own]

    here, best = accuracies(own), statistics.mean(accuracies(dense))
    mean = statistics.mean(here)
    gain = p = won_back = None
    better = 0
    if plain is not None:
        theirs = accuracies(plain)
        gain, p = mean - statistics.mean(theirs), paired_t(here, theirs)
        better = sum(a > b for a, b in zip(here, theirs, strict=True))
        lost = best - statistics.mean(theirs)
        won_back = gain / lost if lost > 0 else None

    def average(name: str) -> float | None:
        return _mean(row.get(name) for row in own.values())

    def losses(part: str) -> float:
        return float(statistics.mean(row[f"{part}_loss"] for row in own.values()))

    network, method, of, small, sparsity, limit, tuned = key
    return Summary(network, method, of, small, sparsity, limit, tuned, len(own), mean,
                   statistics.stdev(here) if len(here) > 1 else None, best - mean, won_back, gain, p, better,
                   statistics.mean(row["kept_small"] / row["kept"] for row in own.values()),
                   losses("calibration"), losses("validation"), average("found_seconds"), average("found_evaluations"),
                   average("screened"), average("gradient_passes"))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None
