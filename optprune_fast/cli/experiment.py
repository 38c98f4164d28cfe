"""The experiment behind `optprune-fast demo`: five ways to prune a small network that reads digits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from optprune_fast.data import Dataset
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.magnitude import magnitude, select
from optprune_fast.masks.operators import random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.models import MLP
from optprune_fast.models.train import train
from optprune_fast.recipe.prune import prune
from optprune_fast.recipe.result import Result
from optprune_fast.report.plots import Weights
from optprune_fast.runtime.files import write_bytes
from optprune_fast.runtime.threads import one_thread

SIZES = (64, 64, 32, 10)
FREE, CORE = 1.0, 0.3  # share of the kept weights that the search chooses


@dataclass(frozen=True)
class Plan:
    """What to run. Under a limit of evaluations, not of time, the demo repeats bit for bit."""

    seeds: int = 5
    epochs: int = 20
    evaluations: int = 1000
    sparsities: tuple[float, ...] = (0.90, 0.95, 0.98)
    smalls: tuple[float, ...] = (FREE, CORE)

    @property
    def steps(self) -> int:
        return self.seeds * (1 + len(self.sparsities) * len(self.smalls))


QUICK = Plan(seeds=1, epochs=3, evaluations=100)


@dataclass(frozen=True)
class Row:
    """One method, at one sparsity, for one seed.

    kept, kept_small:  kept weights, and those of them that magnitude pruning would drop
    test_accuracy:     a fraction, on data that neither training nor the search saw
    seconds:           to train (dense), or to find the mask
    small:             share of the kept weights that the search chose; None where there was no search
    """

    sparsity: float
    seed: int
    method: str
    kept: int
    kept_small: int
    test_accuracy: float
    seconds: float
    small: float | None


def network() -> MLP:
    """The demo's network, untrained: the factory for `optprune-fast eval`, with a checkpoint of the demo."""
    return MLP(SIZES)


def run(plan: Plan, data: Dataset, out: Path, step: Callable[[str], None]) -> tuple[list[Row], Weights]:
    """Train, prune and judge; save networks and results under `out`; call `step` after each piece of work.

    Returns the rows, and the weights of one network for the histogram.
    """
    # Matrices this small are not worth sharing: threads that wait for one another tripled the time. Training, unlike
    # the search, rounds differently on another number of threads, so this also makes the table repeat.
    with one_thread():
        return _run(plan, data, out, step)


def _run(plan: Plan, data: Dataset, out: Path, step: Callable[[str], None]) -> tuple[list[Row], Weights]:
    rows: list[Row] = []
    shown: Weights | None = None
    for seed in range(plan.seeds):
        start = time.perf_counter()
        net = _trained(data, plan.epochs, seed)
        seconds = time.perf_counter() - start
        (out / "networks").mkdir(parents=True, exist_ok=True)
        write_bytes(out / "networks" / f"{seed}.safetensors", save(net.state_dict()))
        step(f"seed {seed}: trained")
        judge = Judge(net, data)
        for sparsity in plan.sparsities:
            start = time.perf_counter()
            large = magnitude(net, sparsity)
            chosen = time.perf_counter() - start
            everything = PackedMasks.full(judge.layout)
            rows.append(judge.row("dense", everything, large.mask, sparsity, seed, seconds, None))
            rows.append(judge.row("magnitude", large.mask, large.mask, sparsity, seed, chosen, None))
            for small in plan.smalls:
                result = prune(net, data.train, sparsity, small=small, evaluations=plan.evaluations, seed=seed,
                               progress=False)
                if result.stopped_by == "interrupt":  # a part of the table would mislead
                    raise KeyboardInterrupt
                result.save(folder(out, sparsity, seed, small))
                rows.append(judge.row("optimized", result.mask, large.mask, sparsity, seed, result.seconds, small))
                start = time.perf_counter()
                control = random_small(net, result, seed)
                drawn = time.perf_counter() - start
                rows.append(judge.row("random_small", control, large.mask, sparsity, seed, drawn, small))
                if shown is None and sparsity == plan.sparsities[len(plan.sparsities) // 2]:
                    shown = _weights(net, result, large.threshold)
                step(f"seed {seed}, sparsity {sparsity:.0%}")
    assert shown is not None
    return rows, shown


def random_small(net: nn.Module, result: Result, seed: int) -> PackedMasks:
    """The control: as many small weights as the optimizer kept, but drawn at random; the rest are the largest.

    Its budget is the result's, and it holds the result's core. Were any small weights as good, it would do as well.
    """
    layout, budget = result.layout, result.budget
    largest = select(layout, layout.weights_of(net), budget - result.kept_small, 0).mask
    return random_masks(layout, budget, [seed], core=largest, within=~result.magnitude)


def folder(out: Path, sparsity: float, seed: int, small: float) -> Path:
    """Where the result of one run lies; the runs with a core lie one folder deeper."""
    place = out / f"{sparsity:g}" / f"{seed}"
    return place if small == FREE else place / f"small_{small:g}"


class Judge:
    """Test accuracy of masks of one network."""

    def __init__(self, net: nn.Module, data: Dataset) -> None:
        assert data.test is not None
        self.evaluator = Evaluator(net, data.test)
        self.layout = self.evaluator.layout

    def row(self, method: str, mask: PackedMasks, large: PackedMasks, sparsity: float, seed: int, seconds: float,
            small: float | None) -> Row:
        kept = int(mask.count())
        right = round(float(self.evaluator.metrics(mask)["accuracy"]) * self.evaluator.samples)
        return Row(sparsity, seed, method, kept, kept - int(mask.overlap(large)), right / self.evaluator.samples,
                   seconds, small)


def as_dicts(rows: list[Row]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


def _trained(data: Dataset, epochs: int, seed: int) -> MLP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network()
    return train(net, data.train, epochs=epochs, seed=seed)


def _weights(net: nn.Module, result: Result, threshold: float | dict[str, float]) -> Weights:
    assert isinstance(threshold, float)
    values: Tensor = torch.cat([w.flatten() for w in result.layout.weights_of(net).values()])
    small = result.mask & ~result.magnitude
    return Weights(values, result.mask.flat()[0], small.flat()[0], threshold,
                   f"weights of one network at {result.sparsity:.0%} sparsity")
