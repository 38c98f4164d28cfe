"""Optimizers of other libraries as strategies; a library is imported when its search starts."""

from __future__ import annotations

from optprune_fast.search.adapters.cma import Cma
from optprune_fast.search.adapters.evotorch import EvoTorch
from optprune_fast.search.adapters.nevergrad import Nevergrad
from optprune_fast.search.adapters.pymoo import Pymoo
from optprune_fast.search.strategy import Strategy

ADAPTERS: dict[str, type[Strategy]] = {"cma": Cma, "evotorch": EvoTorch, "nevergrad": Nevergrad, "pymoo": Pymoo}
