"""The study: what the right small weights are worth, over networks, seeds, sparsities, strategies and controls.

    python -m benchmarks.study.run --data data/ --cifar pictures/ [--quick]

A finished cell is a file under --out; a study that was stopped goes on where it was. At the end everything there goes
into benchmarks/results/study.json and, by it, into docs/RESULTS.md; --quick writes below --out only. A part, such as
one slow network, has a file of its own by --name.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import report, store
from benchmarks.study import table
from benchmarks.study.measure import Subject, measure
from benchmarks.study.networks import NETWORKS, Sources
from benchmarks.study.plan import AUTO, QUICK, Plan, cells
from optprune_fast.bench.machine import describe_machine, on_threads
from optprune_fast.runtime.files import finite, write_json
from optprune_fast.search import STRATEGIES
from optprune_fast.search.adapters import ADAPTERS

QUICK_LIMIT = 1000  # samples
Say = Callable[[str], None]


def study(plan: Plan, sources: Sources, folder: Path, say: Say = print) -> list[dict[str, Any]]:
    """Measure the cells that have no file yet; returns the rows of all, in the plan's order."""
    rows = []
    for name in plan.networks:
        try:
            dataset = NETWORKS[name].data(sources)
        except (FileNotFoundError, ImportError) as problem:
            say(f"{name} skipped: {problem}")
            continue
        for seed in plan.seeds:
            subject = Subject(plan, name, seed, dataset, sources.limit, folder)
            for cell in cells(plan, name, seed):
                path = folder / "cells" / f"{cell.path}.json"
                if not path.exists():
                    row = measure(cell, subject)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_json(path, finite(row))
                    say(f"{cell.path}: test accuracy {row['test_accuracy']:.2%}")
                rows.append(json.loads(path.read_text()))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    plan = replace(QUICK if options.quick else Plan(), **{
        name: value for name in ("networks", "seeds", "sparsities", "strategies", "seconds", "evaluations",
                                 "epochs", "tune_epochs", "controls")
        if (value := getattr(options, name)) is not None})
    folder = options.out or Path("runs") / ("study_quick" if options.quick else "study")
    sources = Sources(options.data, options.cifar, QUICK_LIMIT if options.quick else None)
    machine = {**describe_machine(), "threads": options.threads}
    with on_threads(options.threads):
        rows = study(plan, sources, folder, lambda line: print(line, flush=True))
    document = store.write("_".join(filter(None, ("study", options.name))), "study", rows, machine,
                             {"quick": options.quick}, folder if options.quick else None)
    print(f"\n{table.section([json.loads(document.read_text())])}\n\nwritten: {document}")
    if not options.quick:
        print("and", report.DOCS / "RESULTS.md", *report.main(only=("study",)))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed: dict[str, Any] = {"nargs": "+", "action": _Tuple}
    parser.add_argument("--networks", choices=list(NETWORKS), **listed)
    parser.add_argument("--seeds", type=int, **listed)
    parser.add_argument("--sparsities", type=float, **listed)
    parser.add_argument("--strategies", choices=[AUTO, *STRATEGIES, *ADAPTERS], **listed,
                        help="all that need no other package, if not named")
    parser.add_argument("--seconds", type=float, help="of a search; 0 leaves the bake-off at equal seconds out")
    parser.add_argument("--evaluations", type=int, help="of a search; 0 leaves that bake-off out")
    parser.add_argument("--epochs", type=int, help="that a network is trained; what the study says if not given")
    parser.add_argument("--tune-epochs", type=int, help="of fine-tuning; 0 leaves it out")
    parser.add_argument("--controls", action=argparse.BooleanOptionalAction, default=True,
                        help="masks of another seed, random small weights, and auto with a core")
    parser.add_argument("--name", help="of a part: its rows go into study_NAME.json, beside those of other parts")
    parser.add_argument("--data", type=Path, help="folder of mnist/ and fashion-mnist/, idx files")
    parser.add_argument("--cifar", type=Path, help="folder of train/<class>/ and test/<class>/, pictures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where cells and networks are kept")
    parser.add_argument("--quick", action="store_true", help="1000 samples, two seeds, 90 %%: minutes, not hours")
    return parser.parse_args(arguments)


class _Tuple(argparse.Action):
    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: object = None) -> None:
        setattr(namespace, self.dest, tuple(values))


if __name__ == "__main__":
    main()
