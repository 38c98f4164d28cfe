"""Our evaluator against what torch users do today, on five networks: JSON into benchmarks/results/, a Markdown table.

    python -m benchmarks.masked_forward.run [--quick] [--compile] [--networks mlp lenet5] [--densities .1 .02]

A quiet machine is needed: the file says what the load was.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

from benchmarks.masked_forward.task import NETWORKS, problem
from benchmarks.store import ASIDE, write
from optprune_fast.bench import Problem, cells, chosen, compare, markdown
from optprune_fast.bench.machine import describe_machine
from optprune_fast.bench.race import Rules
from optprune_fast.bench.table import HEADER

DENSITIES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS)
    parser.add_argument("--densities", nargs="+", type=float)
    parser.add_argument("--P", nargs="+", type=int, help="candidates; each network has its own default")
    parser.add_argument("--B", nargs="+", type=int, help="samples; each network has its own default")
    parser.add_argument("--threads", nargs="+", type=int)
    parser.add_argument("--rounds", type=int, help="timed calls of each rival, on fresh masks each")
    parser.add_argument("--seconds", type=float, default=20.0, help="after so many a rival stops early, with two calls")
    parser.add_argument("--backends", nargs="+", default=["native"], help="of ours: native, numba, auto, torch")
    parser.add_argument("--without", nargs="+", default=[], help="rivals to leave out")
    parser.add_argument("--compile", action="store_true", help="with the rivals that torch.compile takes long over")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=None, help="measure peaks too")
    parser.add_argument("--quick", action="store_true", help="mlp and lenet5 at density 0.1, one thread, few rounds")
    parser.add_argument("--small", action="store_true", help="tiny networks: shows that everything runs, no result")
    parser.add_argument("--out", default="masked_forward", help="name of the file, without .json")
    options = parser.parse_args(arguments)
    quick = options.quick or options.small
    options.networks = options.networks or (["mlp", "lenet5"] if options.quick else list(NETWORKS))
    options.densities = options.densities or ([0.1] if quick else list(DENSITIES))
    options.threads = options.threads or ([1] if quick else [1, 2])
    options.rounds = options.rounds or (3 if quick else 5)
    options.memory = not quick if options.memory is None else options.memory
    return options


def make(name: str, samples: int, small: bool, density: float) -> Problem:
    """At module level, so that another process can import it: memory is measured in one."""
    return problem(name, samples, small, density)


def rows_of(options: argparse.Namespace) -> list[dict[str, Any]]:
    rivals = chosen(options.backends, compiled=options.compile, without=options.without)
    rows = []
    for name in options.networks:
        network = NETWORKS[name]
        for candidates in options.P or [4 if options.small else network.P]:
            for samples in options.B or [8 if options.small else network.B]:
                rows += compare(partial(make, name, samples, options.small), rivals, densities=options.densities,
                                candidates=candidates, threads=options.threads,
                                rules=Rules(options.rounds, options.seconds), memory=options.memory,
                                say=partial(print, file=sys.stderr, flush=True))
    return rows


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    machine = describe_machine()  # the load before, which is others' work
    rows = rows_of(options)
    aside = ASIDE if options.quick or options.small else None
    path = write(options.out, "masked_forward", rows, machine, vars(options), aside)
    print(markdown(HEADER, cells(rows)))
    print(f"\n\\* the best torch rival of its cell. {path}")


if __name__ == "__main__":
    main()
