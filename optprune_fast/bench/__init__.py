"""Our evaluator beside what torch users do today: the same masks, checked before they are timed.

`optprune-fast bench` runs it on a model and data of one's own, `benchmarks/` on fixed networks.
"""

from optprune_fast.bench.compare import compare
from optprune_fast.bench.problem import Masks, Problem, fresh_masks
from optprune_fast.bench.rivals import OURS, TORCH, chosen
from optprune_fast.bench.table import cells, markdown

__all__ = ["OURS", "TORCH", "Masks", "Problem", "cells", "chosen", "compare", "fresh_masks", "markdown"]
