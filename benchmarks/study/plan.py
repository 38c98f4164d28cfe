"""Which cells a study has: a cell is one method on one network, seed and sparsity, under one limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.study.networks import NETWORKS, Network
from optprune_fast.search import STRATEGIES

DENSE, MAGNITUDE, OTHER_SEED, RANDOM = "dense", "magnitude", "magnitude_other_seed", "random_small"
AUTO, CORE = "auto", 0.3  # the searches of "auto" run again with `small=CORE`


@dataclass(frozen=True)
class Plan:
    """seconds, evaluations: of a search, for the two bake-offs; None leaves one out.
    epochs, tune_epochs: None is what the network says; tune_epochs=0 leaves fine-tuning out
    controls: also the masks of another seed, random small weights and "auto" with a core"""

    networks: tuple[str, ...] = tuple(NETWORKS)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    sparsities: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
    strategies: tuple[str, ...] = (AUTO, *STRATEGIES)
    seconds: float | None = 10.0
    evaluations: int | None = 2000
    epochs: int | None = None
    tune_epochs: int | None = None
    controls: bool = True

    def other_seed(self, seed: int) -> int:
        """Whose training the control takes its mask from."""
        at = self.seeds.index(seed)
        return seed + 1 if len(self.seeds) == 1 else self.seeds[(at + 1) % len(self.seeds)]


QUICK = Plan(seeds=(0, 1), sparsities=(0.9,), seconds=1.0, evaluations=50, epochs=10, tune_epochs=1)


@dataclass(frozen=True)
class Cell:
    """small, seconds, evaluations: of the search, or of the search whose small weights `random_small` counts
    of:     the strategy that `random_small` counts
    tuned:  epochs of fine-tuning after the mask"""

    network: str
    seed: int
    sparsity: float
    method: str
    small: float | None = None
    seconds: float | None = None
    evaluations: int | None = None
    of: str | None = None
    tuned: int = 0

    @property
    def search(self) -> Cell | None:
        """The search that gave the mask, or None."""
        if self.small is None:
            return None
        return replace(self, method=self.of or self.method, of=None, tuned=0)

    @property
    def path(self) -> str:
        """Where the cell's files lie: equal cells only have equal paths."""
        parts = [self.method, f"of_{self.of}" if self.of else "", "" if self.small is None else f"small{self.small:g}",
                 "" if self.seconds is None else f"{self.seconds:g}s",
                 "" if self.evaluations is None else f"{self.evaluations}e", f"tuned{self.tuned}" if self.tuned else ""]
        return f"{self.network}/{self.seed}/{self.sparsity:g}/{'-'.join(part for part in parts if part)}"


def cells(plan: Plan, name: str, seed: int) -> Iterator[Cell]:
    """The cells of one network and seed. What fine-tuning and the control start from comes before them."""
    network = NETWORKS[name]
    epochs = network.tune_epochs if plan.tune_epochs is None else plan.tune_epochs
    yield from _with_tuning(Cell(name, seed, 0.0, DENSE), epochs)
    for sparsity in plan.sparsities:
        for method in (MAGNITUDE, OTHER_SEED) if plan.controls else (MAGNITUDE,):
            yield from _with_tuning(Cell(name, seed, sparsity, method), epochs)
        for search in _searches(plan, network, name, seed, sparsity):
            # The bake-off at equal evaluations compares searches: tuning it too would tell nothing new.
            tuning = epochs if search.seconds is not None else 0
            yield from _with_tuning(search, tuning)
            if search.method == AUTO and plan.controls:
                yield from _with_tuning(replace(search, method=RANDOM, of=search.method), tuning)


def _searches(plan: Plan, network: Network, name: str, seed: int, sparsity: float) -> Iterator[Cell]:
    limits = [(plan.seconds and network.slow * plan.seconds, None), (None, plan.evaluations)]
    for seconds, evaluations in limits:
        if seconds or evaluations:
            for strategy in plan.strategies:
                for small in (1.0, CORE) if strategy == AUTO and plan.controls else (1.0,):
                    yield Cell(name, seed, sparsity, strategy, small, seconds, evaluations)


def _with_tuning(cell: Cell, epochs: int) -> Iterator[Cell]:
    yield cell
    if epochs:
        yield replace(cell, tuned=epochs)
