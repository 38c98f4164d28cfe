"""Dense candidates that torch evaluates faster than kernels that skip zeros: chosen by a rule, not by a clock.

    predicted on our kernels > 1.1 × predicted in torch ──▶ torch, one candidate a thread: weight * mask, its product
                                                    else ──▶ our kernels

Both predictions come from what a candidate keeps and from the coefficients of `shipped`, so that a candidate goes the
same way in every run and beside whomever it is evaluated: torch adds in another order, and bits would show another
choice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from optprune_fast.engine.compiled import CompiledForward, Piece
from optprune_fast.engine.cost import Counts, counts_of
from optprune_fast.engine.objective import NAMED, ordered_sum
from optprune_fast.engine.population import Population
from optprune_fast.engine.shipped import SHIPPED, kind_of
from optprune_fast.ops.words import popcount
from optprune_fast.plan import reference
from optprune_fast.plan.program import Program
from optprune_fast.runtime.threads import one_thread, thread_count

MARGIN = 1.1   # what predictions are not worth
GLANCE = 8     # of so many rows of a layer, one is counted: the rule must cost next to nothing
DENSITIES = [0.01, 0.02, *(step / 20 for step in range(1, 21))]


class HandOver:
    """Decides candidate by candidate, and evaluates those that go to torch.

    never:    why nothing is handed over, or ""
    at_once:  samples that go through torch at a time
    """

    def __init__(self, compiled: CompiledForward, never: str, at_once: int) -> None:
        self.compiled, self.layout, self._never, self.at_once = compiled, compiled.layout, never, at_once

    def over(self, compiled: CompiledForward) -> HandOver:
        """The same rule for other data of the same kinds."""
        return HandOver(compiled, self._never, self.at_once)

    def sums(self, words: Tensor, objective: str, native: Callable[[Tensor], Tensor]) -> Tensor:
        """float64 [P]: the objective summed over all samples. words: int64 [P, W]; native: what our kernels give."""
        given = self.takes(words)
        if not given.any():
            return native(words)
        total = torch.zeros(len(words), dtype=torch.float64)
        for piece in self.compiled.pieces(objective):
            total[given] += self._piece_sums(words[given], piece, objective)
        if not given.all():
            total[~given] = native(words[~given])
        return total

    def takes(self, words: Tensor) -> Tensor:
        """bool [P]: which candidates go to torch. words: int64 [P, W]."""
        if self.why_not or not len(words):
            return torch.zeros(len(words), dtype=torch.bool, device=words.device)
        shares = {}
        for layer in self.layout:
            place = slice(layer.first_word, layer.first_word + layer.rows * layer.row_words)
            rows = words[:, place].unflatten(1, (layer.rows, layer.row_words))[:, ::GLANCE]
            shares[layer.name] = popcount(rows).sum((1, 2)) / (rows.shape[1] * layer.columns)
        kept = [shares.get(layer.name, torch.ones(len(words))).tolist() for layer in self._program.layers]
        return torch.tensor([self._is_slower(each) for each in zip(*kept, strict=True)])

    @cached_property
    def why_not(self) -> str:
        """Why no candidate is handed over, whatever it keeps; or ""."""
        if self._never:
            return self._never
        if self.compiled.backend != "native":
            return f"no coefficients are there for {self.compiled.backend}"
        runner = self.compiled.program(self.compiled.batches.kinds[0].example)
        if not isinstance(runner, Population):
            return "torch runs parts of this network already"
        kind = kind_of(runner.isa)
        if kind not in SHIPPED:
            return f"no coefficients are there for {kind}: python -m benchmarks.masked_forward.break_even"
        self._program, self._lanes, self._rates = runner.program, runner.lanes, SHIPPED[kind]
        samples = self.compiled.batches.kinds[0].largest
        self._torch = self._rates(torch_counts(self._program, samples))
        if self.least is None:
            return f"predicted at density 1: {self._said(1.0)}"
        return ""

    @cached_property
    def least(self) -> float | None:
        """The least density at which candidates go to torch, if it is the same in all layers."""
        return next((density for density in DENSITIES if self._is_slower(self._alike(density))), None)

    @property
    def said(self) -> str:
        """For `explain()`."""
        if self.why_not:
            return f"none: {self.why_not}"
        assert self.least is not None
        return f"to torch from density {self.least:g}, where predicted: {self._said(self.least)}"

    def _said(self, density: float) -> str:
        native = self._native(self._alike(density))
        return f"{native / 1e6:.3g} ms a sample on our kernels, {self._torch / 1e6:.3g} in torch"

    def _alike(self, density: float) -> tuple[float, ...]:
        return tuple(density if layer.first_word >= 0 else 1.0 for layer in self._program.layers)

    def _native(self, kept: tuple[float, ...]) -> float:
        return sum(map(self._rates, counts_of(self._program, kept, self._lanes)))

    def _is_slower(self, kept: tuple[float, ...]) -> bool:
        return self._native(kept) > MARGIN * self._torch

    def _piece_sums(self, words: Tensor, piece: Piece, objective: str) -> Tensor:
        """float64 [p]. Candidates run beside one another, each on one thread, so that no bit depends on how many."""
        with one_thread(), ThreadPoolExecutor(thread_count(), initializer=partial(torch.set_num_threads, 1)) as pool:
            found = list(pool.map(lambda own: self._candidate(own, piece, objective), words))
        return torch.stack(found)

    @torch.inference_mode()
    def _candidate(self, words: Tensor, piece: Piece, objective: str) -> Tensor:
        state = {**self.compiled.forward.state, **self._pruned(words)}
        graph, total = self.compiled.graph(piece.kind), torch.zeros((), dtype=torch.float64)
        size = -(-piece.batch.size // -(-piece.batch.size // self.at_once))  # chunks of like size
        for start in range(0, piece.batch.size, size):
            some = slice(start, start + size)
            batch = piece.batch.pick(some)
            outputs = reference.run(graph, state, batch.args, batch.kwargs)
            targets = None if piece.classes is None else piece.classes[some]
            dense = None if piece.dense is None else piece.dense[some]
            total += ordered_sum(NAMED[objective].per_sample(outputs[None], targets, dense))[0]
        return total

    def _pruned(self, words: Tensor) -> dict[str, Tensor]:
        """{name: weight * mask} of one candidate, int64 [W]."""
        bits = np.unpackbits(words.numpy().astype("<i8", copy=False).view(np.uint8), bitorder="little")
        out = {}
        for layer in self.layout:
            rows = bits[64 * layer.first_word:][:64 * layer.rows * layer.row_words].reshape(layer.rows, -1)
            mask = torch.from_numpy(rows[:, :layer.columns]).view(torch.bool)
            out[layer.name] = self.compiled.forward.state[layer.name] * mask.reshape(layer.shape)
        return out


def asked_for(backend: str) -> str:
    """Why a backend or an instruction set that was asked for keeps its candidates, or "" where none was."""
    if backend != "auto":
        return f"backend {backend!r} was asked for"
    wishes = [f"{name}={os.environ[name]}" for name in ("OPTPRUNE_BACKEND", "OPTPRUNE_ISA")
              if os.environ.get(name, "auto") not in ("", "auto")]
    return f"{wishes[0]} was asked for" if wishes else ""


def torch_counts(program: Program, samples: int) -> Counts:
    """What torch does for one sample under any mask."""
    counts: Counts = {"torch linear": 0.0, "torch conv2d": 0.0, "torch matmul": 0.0, "torch element": 0.0,
                      "torch weight": 0.0, "torch call": len(program.steps) / samples}
    for step in program.steps:
        size = torch.Size(step.out.shape).numel()
        if step.layer >= 0:
            layer = program.layers[step.layer]
            counts[f"torch {step.op}"] += layer.weight.numel() * layer.positions
            counts["torch weight"] += layer.weight.numel() / samples
        elif step.op == "matmul":
            counts["torch matmul"] += size * step.a.shape[-1]
        counts["torch element"] += size
    return counts
