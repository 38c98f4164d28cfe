"""What a step of a program should take: what it has to do, counted, times what each of these takes on this machine.

    predicted = Σ count × nanoseconds          e.g.  40,000 kept weights × 64 positions × 0.02 + 98,304 bytes × 0.03

The model knows kept weights, the way that they go, elements and bytes; it knows nothing of a program that is being
written while another is read, so a step may well take half as long or twice as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from optprune_fast.plan.built import dense_from
from optprune_fast.plan.placed import Placed
from optprune_fast.plan.program import CUTTING_OFF, LayerUse, Program, Step

Counts = dict[str, float]  # what a step does -> how often for one sample
WORDS_FROM = 1 / 32  # share of kept weights from which a linear layer reads words, as csrc/kernels/population/list.h
PANEL = 64           # columns
CACHES = (("first level", 32 << 10), ("second level", 512 << 10))
AS_IT_STORES = {"conv2d": CUTTING_OFF, "linear": ("relu",)}  # activations that cost no pass of their own
ELEMENTWISE = {"activation", "add", "sub", "mul", "scale", "widen", "embedding"}  # they move numbers, and that is all


@dataclass(frozen=True)
class Coefficients:
    """nanoseconds: of one of each thing that a step does, for one sample on one thread; what is not there is nought."""

    nanoseconds: Mapping[str, float]

    def __call__(self, counts: Counts) -> float:
        """Nanoseconds."""
        return sum(count * self.nanoseconds.get(what, 0.0) for what, count in counts.items())


def way_of(step: Step, layer: LayerUse, kept: float) -> str:
    """How the kernel goes over the weights of a layer of which a share of `kept` is left.

    "dense": dropped ones are multiplied as zeros; "words": read from the mask; "list" and "skip": from a list.
    """
    if kept >= dense_from(step, layer):
        return "dense"
    if step.op == "conv2d":
        return "skip"
    return "words" if kept >= WORDS_FROM else "list"


def counts_of(program: Program, kept: Sequence[float], lanes: int) -> list[Counts]:
    """What each step does for one sample.

    kept:   of each layer of the program, the share of weights that a mask keeps
    lanes:  samples of a register
    """
    return [_count(program, step, kept, lanes) for step in program.steps]


def _count(program: Program, step: Step, kept: Sequence[float], lanes: int) -> Counts:
    counts: Counts = {}
    kind = step.activation[0]
    if kind not in ("none", *AS_IT_STORES.get(step.op, ())):
        counts[kind] = _elements(step.out)
    if step.layer >= 0:
        _add_layer(counts, program, step, kept, lanes)
    elif step.op == "matmul":
        counts["matmul"] = _elements(step.out) * step.a.shape[-1]
    elif step.op not in ELEMENTWISE:
        counts[step.op] = _elements(step.a)
    writes = reads = 1.0
    if step.layer >= 0:
        writes, reads = _touched(program, step, kept)
    moved = 4.0 * (reads * _elements(step.a) + writes * (_elements(step.out) + _elements(step.b)))
    _add_bytes(counts, moved, moved * lanes * (1 if step.narrow else program.width))
    return counts


def _add_layer(counts: Counts, program: Program, step: Step, kept: Sequence[float], lanes: int) -> None:
    layer, share = program.layers[step.layer], kept[step.layer]
    way = way_of(step, layer, share)
    rows = layer.weight.shape[0] * live_share(program, layer, kept)
    weights = rows * layer.weight.shape[1] * (1.0 if way == "dense" else share)
    counts[f"{step.op} {way}"] = weights * layer.positions
    if way == "words":  # the sums of its rows rest in memory between two panels
        counts["sums"] = rows * (-(-layer.weight.shape[1] // PANEL) - 1) * layer.positions
    samples = lanes * (1 if step.narrow else program.width)  # each tile, or register, goes over the weights again
    _add_bytes(counts, 4.0 * weights / samples, 4.0 * weights)


def _add_bytes(counts: Counts, moved: float, at_once: float) -> None:
    """The nearest cache that holds what is `at_once` in use is where it comes from."""
    level = next((name for name, size in CACHES if at_once <= size), "beyond")
    counts[level] = counts.get(level, 0.0) + moved


def live_share(program: Program, layer: LayerUse, kept: Sequence[float]) -> float:
    """Share of rows that a later layer reads, if what it keeps is spread evenly: the kernel leaves out the others."""
    unread = 1.0
    for index, columns in layer.consumers:
        unread *= (1.0 - kept[index]) ** (columns * program.layers[index].weight.shape[0])
    return 1.0 - unread if layer.consumers else 1.0


def _touched(program: Program, step: Step, kept: Sequence[float]) -> tuple[float, float]:
    """Shares of its outputs that a layer writes, and of its inputs that a weight is left for."""
    layer = program.layers[step.layer]
    live, (rows, columns) = live_share(program, layer, kept), layer.weight.shape
    readers = live * rows * columns / step.a.shape[0]
    return live, 1.0 - (1.0 - kept[step.layer]) ** readers


def _elements(placed: Placed | None) -> float:
    return 0.0 if placed is None else float(torch.Size(placed.shape).numel())
