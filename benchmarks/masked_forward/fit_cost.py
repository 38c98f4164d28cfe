"""Is the cost linear in P and in B? Times ours over both and fits a line to each.

    python -m benchmarks.masked_forward.fit_cost [--networks mlp] [--P 16 64 256] [--B 64 256 1024]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.masked_forward.run import make
from benchmarks.masked_forward.task import NETWORKS
from benchmarks.store import ASIDE, write
from optprune_fast.bench import OURS, compare, markdown
from optprune_fast.bench.machine import describe_machine
from optprune_fast.bench.race import Rules

HEADER = ("network", "over", "other", "D", "threads", "ms a unit", "ms at nought", "R²")


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """(slope, intercept, R²) of the line of least squares.

    >>> line([1, 2, 3], [3.0, 5.0, 7.0])
    (2.0, 1.0, 1.0)
    """
    slope, intercept = statistics.linear_regression(x, y)
    mean = statistics.fmean(y)
    rest = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    whole = sum((b - mean) ** 2 for b in y)
    return slope, intercept, 1 - rest / whole if whole else 1.0


def fits(rows: Sequence[dict[str, Any]], over: str) -> dict[str, Any]:
    """One fit, of medians over "P" or "B"; everything else is the same in all rows."""
    other = "B" if over == "P" else "P"
    slope, intercept, r2 = line([row[over] for row in rows], [row["median_s"] for row in rows])
    first = rows[0]
    return {"network": first["network"], "rival": first["rival"], "over": over, "at": [row[over] for row in rows],
            other: first[other], "median_s": [row["median_s"] for row in rows], "density": first["density"],
            "threads": first["threads"], "slope_s": slope, "intercept_s": intercept, "r2": r2}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["mlp", "lenet5"])
    parser.add_argument("--P", nargs="+", type=int, default=[16, 64, 256])
    parser.add_argument("--B", nargs="+", type=int, default=[64, 256, 1024])
    parser.add_argument("--at", nargs=2, type=int, default=[64, 256], help="P and B while the other varies")
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--backend", choices=OURS, default="native")
    parser.add_argument("--small", action="store_true", help="tiny networks: shows that everything runs, no result")
    options = parser.parse_args(arguments)
    machine = describe_machine()

    def times(name: str, candidates: int, samples: int) -> dict[str, Any]:
        return compare(partial(make, name, samples, options.small), [OURS[options.backend]],
                       densities=[options.density], candidates=candidates, threads=[options.threads],
                       rules=Rules(options.rounds))[0]

    found = []
    for name in options.networks:
        found.append(fits([times(name, p, options.at[1]) for p in options.P], "P"))
        found.append(fits([times(name, options.at[0], b) for b in options.B], "B"))
    path = write("cost", "cost", found, machine, vars(options), ASIDE if options.small else None)
    print(markdown(HEADER, [[f["network"], f["over"], f"B = {f['B']}" if f["over"] == "P" else f"P = {f['P']}",
                             f"{f['density']:g}", str(f["threads"]), f"{1000 * f['slope_s']:.4f}",
                             f"{1000 * f['intercept_s']:.2f}", f"{f['r2']:.5f}"] for f in found]))
    print(f"\n{path}")


if __name__ == "__main__":
    main()
