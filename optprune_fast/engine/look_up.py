"""Whether the first layer of a call goes by table look-up (csrc/kernels/look_up), where `Evaluator(lookup=True)` asks.

    predicted by look-up, for so many candidates   <   predicted the usual way, by what they keep   ──▶   look-up

Tables serve all candidates and cost the same at any density. They add in another order, so no clock decides but a rule:
a function of how many candidates a call has, of what they keep, of the layer, and of coefficients written down here.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from optprune_fast.engine.cost import Coefficients, Counts, counts_of
from optprune_fast.engine.population import Population
from optprune_fast.ops.words import popcount, word_count

GROUP = 5      # inputs of a table, as csrc/kernels/look_up/look_up.h
FEWEST = 16    # candidates, whatever the coefficients say
MANY = 64      # candidates that `explain` speaks of
MARGIN = 1.05  # what predictions are not worth
GLANCE = 8     # rows of the layer that are counted: the rule must cost next to nothing

# Nanoseconds by instruction set, on one thread; without a row there is no look-up. On AVX2 a table takes four registers
# and a pick seven instructions, so that it never pays. Measured by `python -m benchmarks.masked_forward.look_up
# --coefficients` on an Intel Xeon (AVX-512), a busy machine, 2026-11-30: the medians of three runs.
COEFFICIENTS: dict[str, Coefficients] = {
    "avx512": Coefficients({
        "linear list": 0.0436, "linear words": 0.0177, "linear dense": 0.0136, "sums": 0.0647,
        "look-up table": 1.01, "look-up pick": 0.437, "look-up output": 0.362,
    }),
}


def takes(engine: Population, words: Tensor) -> bool:
    """Whether the first layer of these candidates, int64 [P, W], goes by look-up."""
    if not serves(engine, len(words)):
        return False
    layer = engine.program.layers[engine.program.steps[0].layer]
    rows, W = layer.weight.shape[0], word_count(layer.weight.shape[1])
    some = torch.linspace(0, rows - 1, min(GLANCE, rows)).long()
    own = words[:, layer.first_word:layer.first_word + rows * W].unflatten(1, (rows, W))[:, some]
    return pays(engine, (popcount(own).sum((1, 2)) / (len(some) * layer.weight.shape[1])).tolist())


def serves(engine: Population, candidates: int) -> bool:
    """Whether look-up can run, and may be faster: a first linear layer whose inputs all candidates share."""
    return candidates >= FEWEST and engine.isa in COEFFICIENTS and engine.together > 0


def pays(engine: Population, shares: list[float]) -> bool:
    """Whether the rule prefers look-up for candidates that keep these shares of the first layer."""
    rate, program = COEFFICIENTS[engine.isa], engine.program
    others = [1.0] * (len(program.layers) - 1)
    alike = Counter(round(share, 2) for share in shares)  # as counting takes longer than a look at a few rows
    usual = sum(many * rate(counts_of(program, [share, *others], engine.lanes)[0]) for share, many in alike.items())
    return MARGIN * len(shares) * rate(look_up_counts(engine, len(shares))) < usual


def look_up_counts(engine: Population, candidates: int) -> Counts:
    """What the first layer does by look-up, for one sample of one of so many candidates."""
    rows, columns = engine.program.layers[engine.program.steps[0].layer].weight.shape
    tables = rows * -(-columns // GROUP) / candidates
    return {"look-up table": tables * -(-candidates // engine.together),
            "look-up pick": tables * -(-candidates // engine.lanes), "look-up output": float(rows)}
