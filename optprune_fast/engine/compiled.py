"""The captured plan of a network: what an engine evaluates by itself, and why it does not where it does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from optprune_fast.engine.batches import Batch
from optprune_fast.engine.families import find_families, flips
from optprune_fast.engine.forward import MaskedForward
from optprune_fast.engine.objective import check_targets
from optprune_fast.engine.population import LOSSES, Population, Turned
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan import CannotCapture, capture
from optprune_fast.plan.graph import Graph
from optprune_fast.plan.indices import check_indices
from optprune_fast.plan.rules import CannotLower

if TYPE_CHECKING:
    from optprune_fast.engine.numba_population import NumbaPopulation

# Turned inputs are kept from call to call up to this size; beyond it, pieces are turned when their turn comes.
KEPT_BYTES = 1 << 30
PIECE_BYTES = 64 << 20
GROUP = 128  # samples: a piece ends where a wide tile and a group of sums end, on every instruction set

Signature = tuple[tuple[int | str, tuple[int, ...] | str], ...]


@dataclass(frozen=True)
class Piece:
    """Some samples of a batch: turned inputs, and targets int64 [B, positions]."""

    turned: Turned
    targets: Tensor | None


class CompiledForward:
    """Programs of one network, one for each shape of inputs that the data have.

    backend: "native" or "numba": whose engine runs them
    reason:  why none runs, or "" if all do so far
    """

    def __init__(self, forward: MaskedForward, layout: MaskLayout, batches: Sequence[Batch], backend: str,
                 reason: str) -> None:
        self.forward, self.layout, self.batches, self.backend, self.reason = forward, layout, batches, backend, reason
        self._graphs: dict[Signature, Graph] = {}
        self.refresh()

    def refresh(self) -> None:
        """Forget what was made from the weights; graphs stay, a model's structure does not change."""
        self._programs: dict[tuple[Signature, bool], Population | NumbaPopulation] = {}
        self._pieces: dict[str, list[list[Piece]]] = {}

    @property
    def ready(self) -> bool:
        """Whether every batch has a program; captures what was not captured yet."""
        if not self.reason:
            try:
                for batch in self.batches:
                    self.program(batch)
            except (CannotCapture, CannotLower) as refused:
                self.reason = str(refused)
        return not self.reason

    def program(self, batch: Batch, keep: bool = False) -> Population | NumbaPopulation:
        """The program of a batch's shape; with `keep`, one whose tile holds every value, as native moves need it."""
        kind = _signature(batch)
        if kind not in self._graphs:
            for key, value in (*enumerate(batch.args), *batch.kwargs.items()):
                if isinstance(value, Tensor) and not batch._per_sample(value):
                    raise CannotCapture(f"argument {key!r} has no entry for each sample")
            example = batch.pick(slice(0, 3))
            graph = capture(self.forward.model, example.args, example.kwargs, self.layout)
            for known in self.batches:
                if _signature(known) == kind:
                    check_indices(graph, self.forward.state, _inputs(known))
            self._graphs[kind] = graph
        if (kind, keep) not in self._programs:
            most = max((b.size for b in self.batches if _signature(b) == kind), default=batch.size)
            self._programs[kind, keep] = self._population(self._graphs[kind], most, keep)
        return self._programs[kind, keep]

    def _population(self, graph: Graph, samples: int, keep: bool) -> Population | NumbaPopulation:
        if self.backend == "numba":
            from optprune_fast.engine.numba_population import NumbaPopulation  # it imports Numba

            return NumbaPopulation(graph, self.layout, self.forward.state, samples)
        return Population(graph, self.layout, self.forward.state, samples, keep=keep)

    def sums(self, words: Tensor, objective: str) -> Tensor:
        """float64 [P]: the objective summed over all samples. words: int64 [P, W]."""
        total = torch.zeros(len(words), dtype=torch.float64)
        for program, piece in self._all(objective, keep=False):
            total += program.sums(words, piece.turned, piece.targets, objective)
        return total

    def sums_from_parents(self, words: Tensor, objective: str, parents: Tensor | None, exact: bool) -> Tensor:
        """float64 [P]: those of `sums`; candidates that differ little start from what one of them, or one of
        `parents`, int64 [Q, W], has computed. exact: the same bits."""
        population = self.program(self.batches[0])
        assert isinstance(population, Population)
        families, alone = find_families(population.program.layers, words, parents,
                                        delta=population.chain and not exact)
        total = torch.empty(len(words), dtype=torch.float64)
        total[alone] = self.sums(words[alone], objective)
        for family in families:
            for children, moves in flips(self.layout, family, words):
                total[children] = self.move_sums(family.parent, moves, objective, exact=exact)
        return total

    def move_sums(self, words: Tensor, moves: Tensor, objective: str, *, exact: bool = False) -> Tensor:
        """float64 [M]: the same for the neighbours of one mask. words: int64 [1, W]; moves: int64 [M, F]."""
        total = torch.zeros(len(moves), dtype=torch.float64)
        for program, piece in self._all(objective, keep=True):
            assert isinstance(program, Population)
            total += program.move_sums(words, moves, piece.turned, piece.targets, objective, exact=exact)
        return total

    def seconds(self, words: Tensor, objective: str) -> Tensor:
        """float64 [steps]: wall time of each step for these masks, on the first samples, on one thread."""
        objective = objective if objective in LOSSES else "outputs"
        batch = self.batches[0].pick(slice(0, 1024))
        piece = next(iter(self._turned(batch, objective)))
        program = self.program(self.batches[0])
        assert isinstance(program, Population)
        return program.seconds(words, piece.turned, objective, piece.targets)

    def outputs(self, words: Tensor, batch: Batch) -> Tensor:
        """float32 [P, B, …]: the network's outputs."""
        program = self.program(batch)
        return program.outputs(words, program.turn(_inputs(batch), batch.size, None))

    def takes(self, objective: str) -> bool:
        return objective in LOSSES and self.ready

    def takes_moves(self, objective: str) -> bool:
        """Whether neighbours of a mask are evaluated from what their flips reach: natively, where no weight is tied."""
        return self.backend == "native" and self.takes(objective) and not self.tied

    @property
    def tied(self) -> bool:
        """Whether a weight is used more than once: then a flip reaches several places at once."""
        program = self.program(self.batches[0]).program
        names = [layer.name for layer in program.layers]
        return len(set(names)) < len(names)

    def _all(self, objective: str, keep: bool) -> Iterator[tuple[Population | NumbaPopulation, Piece]]:
        if objective not in self._pieces:
            size = sum(_bytes(batch) for batch in self.batches)
            if size > KEPT_BYTES:
                for batch in self.batches:
                    yield from ((self.program(batch, keep), piece) for piece in self._turned(batch, objective))
                return
            self._pieces[objective] = [list(self._turned(batch, objective)) for batch in self.batches]
        for batch, pieces in zip(self.batches, self._pieces[objective], strict=True):
            yield from ((self.program(batch, keep), piece) for piece in pieces)

    def _turned(self, batch: Batch, objective: str) -> Iterator[Piece]:
        program = self.program(batch)
        step = max(1, PIECE_BYTES // max(1, _bytes(batch) // batch.size) // GROUP) * GROUP
        for chunk in batch.chunks(step):
            dense = None
            if objective in ("kl_to_dense", "mse_to_dense"):
                dense = self.forward.dense(chunk)
                dense = F.log_softmax(dense, dim=1) if objective == "kl_to_dense" else dense
            if objective in ("cross_entropy", "error"):
                shape = (chunk.size, *program.program.output_shape)
                check_targets(objective, torch.empty(shape, device="meta"), chunk.targets)
            targets = None if chunk.targets is None or dense is not None else chunk.targets.long().contiguous()
            yield Piece(program.turn(_inputs(chunk), chunk.size, dense), targets)


def _inputs(batch: Batch) -> dict[int | str, Tensor]:
    named: list[tuple[int | str, Any]] = [*enumerate(batch.args), *batch.kwargs.items()]
    return {name: value for name, value in named if batch._per_sample(value)}


def _bytes(batch: Batch) -> int:
    return sum(tensor.nbytes for tensor in _inputs(batch).values())


def _signature(batch: Batch) -> Signature:
    """What a graph depends on: shapes of samples, and the values of what has no samples."""
    named: list[tuple[int | str, Any]] = [*enumerate(batch.args), *batch.kwargs.items()]
    return tuple((name, tuple(value.shape[1:]) if batch._per_sample(value) else repr(value)) for name, value in named)
