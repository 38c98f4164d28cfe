"""Which strategy, core and pool to use by default, on scikit-learn's digits at equal evaluations.

    python benchmarks/search/defaults.py [--evaluations 1500] [--seeds 3]

Prints a Markdown table: mean test accuracy in per cent over seeds (own network and split each). Test data are looked
at after selection only. Every row has exactly the same budget. Gradients and passes over parts of the data come on top
of the evaluations, so they are shown, in passes over all calibration data. Adapters have rows where their library is
installed.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import statistics
import time

import torch

import optprune_fast as opf
from optprune_fast.data import Samples, load
from optprune_fast.models import MLP
from optprune_fast.models.train import accuracy, train
from optprune_fast.search import STRATEGIES
from optprune_fast.search.adapters import ADAPTERS

SPARSITIES = (0.9, 0.95, 0.98)
SCOPES = ("global", "uniform", "erk", "lamp")
INSTALLED = [name for name in ADAPTERS if importlib.util.find_spec(name)]
ROWS = [*((name, 1.0, 1.0) for name in ("auto", *STRATEGIES, *INSTALLED)),
        ("auto", 0.5, 1.0), ("auto", 0.3, 1.0), ("auto", 0.1, 1.0), ("genetic", 1.0, 0.1), ("genetic", 0.3, 0.1),
        ("swap", 1.0, 0.25), ("swap", 1.0, 0.1), ("swap", 1.0, 0.02), ("swap", 0.5, 1.0), ("swap", 0.3, 1.0),
        ("swap", 0.3, 0.1), ("swap", 0.1, 1.0)]


def network(seed: int) -> tuple[MLP, Samples, Samples]:
    """A trained network, its training data and its test data."""
    data = load("digits", seed=seed)
    assert data.test is not None
    torch.manual_seed(seed)
    return train(MLP((64, 64, 32, 10)), data.train, epochs=40, seed=seed), data.train, data.test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluations", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)  # small layers: a second thread costs more than it brings
    networks = [network(seed) for seed in range(options.seeds)]

    def score(model: MLP, test: Samples, mask: opf.PackedMasks) -> float:
        return 100 * float(opf.Evaluator(copy.deepcopy(model), test).metrics(mask)["accuracy"][0])

    rates = " | ".join(f"{s:.0%}" for s in SPARSITIES)
    print(f"| strategy | small | pool | {rates} | evaluations | screened | gradient passes | seconds a search |")
    print("|---|---|---|" + "---|" * (len(SPARSITIES) + 4))
    for scope in SCOPES:
        kept = [statistics.mean(score(m, test, opf.magnitude(m, s, scope).mask) for m, _, test in networks)
                for s in SPARSITIES]
        print(f"| magnitude, {scope} | | | {' | '.join(f'{a:.1f}' for a in kept)} | | | | |")
    print(f"| dense | | | {statistics.mean(100 * accuracy(m, test) for m, _, test in networks):.1f} | | | | | | |")
    for strategy, small, pool in ROWS:
        cells, searches = [], []
        start = time.process_time()
        for sparsity in SPARSITIES:
            found = [opf.prune(m, data, sparsity, strategy, small, pool, evaluations=options.evaluations, seed=seed)
                     for seed, (m, data, _) in enumerate(networks)]
            cells.append([(m, test, result.mask) for (m, _, test), result in zip(networks, found, strict=True)])
            searches += found
        seconds = (time.process_time() - start) / len(searches)
        accuracies = " | ".join(f"{statistics.mean(score(*one) for one in cell):.1f}" for cell in cells)
        spent = " | ".join(f"{statistics.mean(getattr(r, what) for r in searches):.0f}"
                           for what in ("evaluations", "screened", "gradient_passes"))
        print(f"| {strategy} | {small} | {pool} | {accuracies} | {spent} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
