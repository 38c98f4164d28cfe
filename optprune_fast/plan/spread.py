"""How a change of one unit spreads: which step reads which, and unit by unit or not."""

from __future__ import annotations

from optprune_fast.plan.placed import Placed
from optprune_fast.plan.program import Program, Step

# Steps whose leading dimension can be recomputed one entry at a time.
BY_UNIT = {"linear", "conv2d", "activation", "add", "sub", "mul", "scale", "max_pool", "avg_pool", "widen"}
WEIGHTED = {"linear", "conv2d"}
Link = tuple[int, int, int]  # (producer, entries of the reader per unit of the producer or 0 for all, weighted)


def spreads(program: Program) -> list[tuple[int, list[Link]]]:
    """(units, links) of each step: units that can be recomputed alone (0: all or nothing), and whence inputs come."""
    units = [_units(step) for step in program.steps]
    out = []
    for index, step in enumerate(program.steps):
        links = []
        for placed, weighted in ((step.a, step.op in WEIGHTED), (step.b, False)):
            if placed is not None and placed.buffer.space in ("narrow", "wide"):
                producers = [i for i in range(index) if program.steps[i].out.buffer is placed.buffer]
                links += [(i, _factor(program.steps[i].out, units[i], placed) if len(producers) == 1 else 0,
                           int(weighted)) for i in producers]
        out.append((units[index], links))
    return out


def _units(step: Step) -> int:
    whole = step.op == "mean" and step.narrow and len(step.out.shape) > 0
    return step.out.shape[0] if (step.op in BY_UNIT or whole) and step.out.shape else 0


def _factor(made: Placed, units: int, read: Placed) -> int:
    """Entries of the leading dimension of `read` that lie in one unit of `made`; 0 where they do not fit together."""
    if not units or not read.shape or made.offset != read.offset:
        return 0
    if read.shape[0] % units:
        return 0
    factor = read.shape[0] // units
    inner = sum((n - 1) * s for n, s in zip(read.shape[1:], read.strides[1:], strict=True))
    exact = units == 1 or made.strides[0] == factor * read.strides[0]
    return factor if exact and (inner < read.strides[0] or read.shape[0] == 1) else 0
