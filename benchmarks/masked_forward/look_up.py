"""The first layer by table look-up beside the usual ways, and the coefficients of `optprune_fast/engine/look_up.py`.

    OPTPRUNE_THREADS=1 python -m benchmarks.masked_forward.look_up [--coefficients] [--P 64] [--B 256] [--rounds 9]

Processor time of one thread, medians; the ways take turns. With --coefficients: what a step of each way takes on this
machine, by least squares over a few shapes. A quiet machine is needed.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from time import process_time

import torch
from torch import Tensor

from optprune_fast.bench.machine import describe_machine
from optprune_fast.engine.cost import Counts, counts_of
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.look_up import look_up_counts
from optprune_fast.engine.population import Population
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import random_masks
from optprune_fast.models import MLP
from optprune_fast.plan import capture
from optprune_fast.plan.model import state_of
from optprune_fast.runtime import native
from optprune_fast.runtime.threads import one_thread

DENSITIES = (1.0, 0.75, 0.5, 0.35, 0.2)
SHAPES = ((784, 300), (784, 64), (256, 256), (64, 1024), (1600, 120))
WAYS = {"linear dense": (1.0, 0.8), "linear words": (0.6, 0.4, 0.2, 0.05), "linear list": (0.02,)}


def rows(P: int, B: int, rounds: int) -> Iterator[tuple[float, float, float, str]]:
    """(density, milliseconds the usual way, milliseconds with look-up allowed, which way the first layer then went)."""
    torch.manual_seed(0)
    data = torch.rand(B, 784), torch.randint(10, (B,))
    model = MLP([784, 300, 100, 10])
    both = [Evaluator(model, data, backend="native", reuse=(), lookup=allowed) for allowed in (False, True)]
    for density in DENSITIES:
        spent: list[list[float]] = [[], []]
        for turn in range(rounds + 2):
            masks = random_masks(both[0].layout, round(density * both[0].layout.n), list(range(turn * P, turn * P + P)))
            for which in (0, 1) if turn % 2 else (1, 0):  # whoever reads fresh masks first reads them from memory
                began = process_time()
                both[which](masks)
                spent[which].append(1e3 * (process_time() - began))
        usual, allowed = (statistics.median(own[2:]) for own in spent)
        yield density, usual, allowed, "look-up" if "look-up" in both[1].explain() else "as without"


def coefficients(rounds: int) -> dict[str, float]:
    """Nanoseconds of what each way counts."""
    found: dict[str, float] = {}
    for way, shares in WAYS.items():
        found.update(_fit([_usual(shape, share, rounds) for shape in SHAPES for share in shares],
                          [way, "sums"] if way == "linear words" else [way]))
    found.update(_fit([_by_look_up(shape, P, rounds) for shape in SHAPES for P in (16, 32, 48, 64, 128)],
                      ["look-up table", "look-up pick", "look-up output"]))
    return found


def _fit(measured: list[tuple[Counts, float]], names: list[str]) -> dict[str, float]:
    """Relative errors of all measurements weigh alike."""
    counts = torch.tensor([[count[name] / seen for name in names] for count, seen in measured], dtype=torch.float64)
    return dict(zip(names, torch.linalg.lstsq(counts, torch.ones(len(measured), 1).double()).solution[:, 0].tolist(),
                    strict=True))


def _usual(shape: tuple[int, int], share: float, rounds: int) -> tuple[Counts, float]:
    engine, seconds = _engine(shape), []
    for turn in range(rounds):
        masks = _masks(engine, share, 16, turn)
        seconds.append(_first(engine, masks))
    return counts_of(engine.program, [share, share], engine.lanes)[0], min(seconds)


def _by_look_up(shape: tuple[int, int], P: int, rounds: int) -> tuple[Counts, float]:
    engine = _engine(shape)
    seconds = [_first(engine.by_look_up, _masks(engine, 0.5, P, turn)) for turn in range(rounds)]
    return look_up_counts(engine, P), min(seconds)


def _engine(shape: tuple[int, int]) -> Population:
    model = MLP([*shape, 64]).eval()
    layout = MaskLayout.of(model)
    return Population(capture(model, (torch.randn(3, shape[0]),), {}, layout), layout, state_of(model), 256)


def _masks(engine: Population, share: float, P: int, seed: int) -> Tensor:
    return random_masks(engine.layout, round(share * engine.layout.n), list(range(seed * P, seed * P + P))).words


def _first(engine: Population, words: Tensor) -> float:
    """Nanoseconds of the first layer, for one candidate and one sample."""
    columns = engine.program.layers[0].weight.shape[1]
    turned = engine.turn({0: torch.rand(256, columns)}, 256, None)
    return 1e9 * float(engine.seconds(words, turned, "error", torch.zeros(256).long())[0]) / (256 * len(words))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coefficients", action="store_true")
    parser.add_argument("--P", type=int, default=64)
    parser.add_argument("--B", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    with one_thread():
        if options.coefficients:
            print(f'"{native.isa()}":', {name: float(f"{ns:.3g}") for name, ns in coefficients(options.rounds).items()})
            return
        print("| D | usual ways, ms | with look-up, ms | times as fast | first layer |\n|---|---|---|---|---|")
        for density, usual, allowed, way in rows(options.P, options.B, options.rounds):
            print(f"| {density:g} | {usual:.1f} | {allowed:.1f} | {usual / allowed:.2f} | {way} |")
        machine = describe_machine()
        print(f"\nMLP 784-300-100-10, P = {options.P}, B = {options.B}. {machine['processor']}, load "
              f"{machine['load'][0]} after, {machine['date'][:10]}, commit {machine['commit']}.")


if __name__ == "__main__":
    main()
