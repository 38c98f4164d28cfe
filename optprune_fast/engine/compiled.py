"""The captured plan of a network: what an engine evaluates by itself, and why it does not where it does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from optprune_fast.engine import look_up
from optprune_fast.engine.batches import Batch, Signature
from optprune_fast.engine.device_moves import move_sums
from optprune_fast.engine.device_population import DevicePopulation
from optprune_fast.engine.device_replay import Arena
from optprune_fast.engine.families import find_families, flips
from optprune_fast.engine.forward import MaskedForward
from optprune_fast.engine.mixed import Mixed
from optprune_fast.engine.objective import Objective, check_targets
from optprune_fast.engine.passes import Batches
from optprune_fast.engine.population import Population
from optprune_fast.engine.runner import Runner
from optprune_fast.engine.slices import Slices
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan import CannotCapture, capture
from optprune_fast.plan.graph import Graph
from optprune_fast.plan.indices import check_indices
from optprune_fast.plan.logit_scale import with_logit_scale
from optprune_fast.plan.refusal import CannotLower, refusal
from optprune_fast.plan.segments import split

if TYPE_CHECKING:
    from optprune_fast.engine.numba_population import NumbaPopulation

# Turned inputs are kept from call to call up to this size; beyond it, pieces are turned when their turn comes.
KEPT_BYTES = 1 << 30
TIMED_SAMPLES = 1024  # of the first batch: what `seconds` runs
CLASS_LOSSES = ("cross_entropy", "error")


@dataclass(frozen=True)
class Piece:
    """Some samples of a batch, the same for every objective.

    kind:     whose program runs them
    batch:    the samples
    turned:   inputs as their runner has them, and the dense outputs where the evaluator's objective compares with them
    dense:    [B, …]: these dense outputs, or None
    targets:  as given
    classes:  int64 [B, …]: the targets where they are classes that the outputs have, else None
    """

    kind: Signature
    batch: Batch
    turned: Any
    dense: Tensor | None
    targets: Tensor | None
    classes: Tensor | None


class CompiledForward:
    """Programs of one network, one for each shape of inputs that the data have.

    backend:  "native", "numba" or "triton": whose engine runs them
    reason:   why none runs, or "" if all do so far
    compared: the objective if it compares with the dense network, else ""
    memory:   bytes that values between steps may take, on a GPU and where torch runs some of a network's parts
    lookup:   the first layer may go by table look-up
    """

    def __init__(self, forward: MaskedForward, layout: MaskLayout, batches: Batches, backend: str, reason: str,
                 compared: str, memory: int, lookup: bool) -> None:
        self.forward, self.layout, self.batches, self.backend, self.reason = forward, layout, batches, backend, reason
        self.compared, self.memory, self.lookup = compared, memory, lookup
        self._sized_for = batches.kinds  # subsets share programs, and tiles must have one width
        self._graphs: dict[Signature, Graph] = {}
        self._slices = Slices()
        self.arena = Arena(forward.device)
        self.refresh()

    def refresh(self) -> None:
        """Forget what was made from the weights; graphs stay, a model's structure does not change."""
        self._programs: dict[tuple[Signature, bool], Runner] = {}
        self._kept: list[Piece] | None = None

    def over(self, batches: Batches) -> CompiledForward:
        """The same graphs and programs, as they are now, over other data of the same kinds."""
        other = copy(self)
        other.batches, other._kept = batches, None
        return other

    def through(self, forward: MaskedForward) -> CompiledForward:
        """The same over the same data, but for the scale of the logits and the precision, which `forward` has anew."""
        other = copy(self)
        other.forward, ratio = forward, forward.logit_scale / self.forward.logit_scale
        other._graphs = {kind: with_logit_scale(graph, ratio) for kind, graph in self._graphs.items()}
        other.refresh()
        return other

    @property
    def ready(self) -> bool:
        """Whether every batch has a program; captures what was not captured yet."""
        if not self.reason:
            try:
                for kind in self.batches.kinds:
                    self.program(kind.example)
            except (CannotCapture, CannotLower) as refused:
                self.reason = str(refused)
        return not self.reason

    def program(self, batch: Batch, keep: bool = False) -> Runner:
        """The program of a batch's shape; with `keep`, one whose tile holds every value, as native moves need it."""
        kind = batch.signature
        if kind not in self._graphs:
            if batch.shared():
                raise CannotCapture(f"argument {batch.shared()[0]!r} has no entry for each sample")
            example = batch.pick(slice(0, 3)).to(self.forward.device)
            graph = capture(self.forward.model, example.args, example.kwargs, self.layout)
            self._graphs[kind] = with_logit_scale(graph, self.forward.logit_scale)
        return self._program(kind, keep)

    def _program(self, kind: Signature, keep: bool) -> Runner:
        if (kind, keep) not in self._programs:
            most = max((k.largest for k in self._sized_for if k.example.signature == kind), default=1)
            self._programs[kind, keep] = self._runner(self._graphs[kind], most, keep)
        return self._programs[kind, keep]

    def _runner(self, graph: Graph, samples: int, keep: bool) -> Runner:
        if self.backend == "triton":
            return DevicePopulation(graph, self.layout, self.forward.state, self.memory, self.forward.precision,
                                    self.arena)
        if any(refusal(graph, self.layout, node) for node in graph.nodes):
            return Mixed(graph, split(graph, self.layout), self.forward.state, self.memory,
                         lambda part, last: self._population(part, samples, loss=last))
        return self._population(graph, samples, keep=keep)

    def _population(self, graph: Graph, samples: int, *, keep: bool = False,
                    loss: bool = True) -> Population | NumbaPopulation:
        if self.backend == "numba":
            from optprune_fast.engine.numba_population import NumbaPopulation  # it imports Numba

            return NumbaPopulation(graph, self.layout, self.forward.state, samples, loss=loss)
        return Population(graph, self.layout, self.forward.state, samples, keep=keep, loss=loss)

    def graph(self, kind: Signature) -> Graph:
        """What was captured for batches of this kind."""
        return self._graphs[kind]

    def sums(self, words: Tensor, objective: str) -> Tensor:
        """float64 [P]: the objective summed over all samples. words: int64 [P, W]."""
        total = torch.zeros(len(words), dtype=torch.float64, device=words.device)
        for piece in self.pieces(objective):
            total += self._piece_sums(words, piece, objective)
        return total

    def sums_from_parents(self, words: Tensor, objective: str, parents: Tensor | None, exact: bool) -> Tensor:
        """float64 [P]: those of `sums`; candidates that differ little start from what one of them, or one of
        `parents`, int64 [Q, W], has computed. exact: the same bits."""
        population = self.program(self.batches.kinds[0].example)
        assert isinstance(population, Population)
        families, alone = find_families(population.program.layers, words, parents,
                                        delta=population.chained == len(population.program.layers) and not exact)
        total = torch.zeros(len(words), dtype=torch.float64)
        for piece in self.pieces(objective):  # the outer loop, so that streamed data are read once
            total[alone] += self._piece_sums(words[alone], piece, objective)
            for family in families:
                for children, moves in flips(self.layout, family, words):
                    total[children] += self._piece_move_sums(family.parent, moves, piece, objective, exact)
        return total

    def move_sums(self, words: Tensor, moves: Tensor, objective: str) -> Tensor:
        """float64 [M]: the same for the neighbours of one mask. words: int64 [1, W]; moves: int64 [M, F]."""
        total = torch.zeros(len(moves), dtype=torch.float64, device=words.device)
        for piece in self.pieces(objective):
            program = self._program(piece.kind, keep=self.backend == "native")
            if isinstance(program, DevicePopulation):
                total += move_sums(program, self.layout, words, moves, piece.turned, piece.classes, objective)
            else:
                total += self._piece_move_sums(words, moves, piece, objective, exact=False)
        return total

    def _piece_sums(self, words: Tensor, piece: Piece, objective: str) -> Tensor:
        program = self.runner_of(words, self._program(piece.kind, keep=False))
        if isinstance(program, DevicePopulation):  # it has chunks of its own, and Ctrl-C is seen between launches
            return program.sums(words, piece.turned, piece.classes, objective)
        return self._slices.sums(lambda some: program.sums(some, piece.turned, piece.classes, objective), words,
                                 piece.turned.samples)

    def runner_of(self, words: Tensor, program: Runner) -> Runner:
        """Who sums the objective for these candidates: the program, or the same with its first layer by look-up."""
        if self.lookup and isinstance(program, Population) and look_up.takes(program, words):
            return program.by_look_up
        return program

    def _piece_move_sums(self, words: Tensor, moves: Tensor, piece: Piece, objective: str, exact: bool) -> Tensor:
        program = self._program(piece.kind, keep=True)
        assert isinstance(program, Population)
        return program.move_sums(words, moves, piece.turned, piece.classes, objective, exact=exact)

    def seconds(self, words: Tensor, objective: Objective) -> Tensor:
        """float64: wall time for these masks on the first samples; of each step on one thread, or of each part of a
        network of which torch runs some."""
        batch = next(iter(self.batches))
        piece = next(self._turned([batch.pick(slice(0, TIMED_SAMPLES))]))
        program = self.runner_of(words, self.program(batch)) if objective.named else self.program(batch)
        assert isinstance(program, (Population, Mixed))
        return program.seconds(words, piece.turned, objective.name if objective.named else "outputs", piece.classes)

    @property
    def timed_samples(self) -> int:
        """How many samples `seconds` runs."""
        return min(TIMED_SAMPLES, next(iter(self.batches)).size)

    def outputs(self, words: Tensor, batch: Batch) -> Tensor:
        """float32 [P, B, …]: the network's outputs."""
        return self.program(batch).outputs(words, self.arena.first_to_go(self._turn, batch, None))

    def takes(self, objective: Objective) -> bool:
        return objective.named and self.ready

    @property
    def starts_from_parents(self) -> bool:
        """Whether neighbours of a mask are evaluated from what their flips reach: natively, where no weight is tied."""
        return self.backend == "native" and self.ready and not self.mixed and not self.tied

    @property
    def has_moves(self) -> bool:
        """Whether neighbours of a mask start from the parent's pass; else the moved masks are evaluated."""
        return self.starts_from_parents or (self.backend == "triton" and self.ready)

    @property
    def mixed(self) -> bool:
        """Whether torch runs a part of the network."""
        return any(isinstance(self.program(kind.example), Mixed) for kind in self.batches.kinds)

    @property
    def tied(self) -> bool:
        """Whether a weight is used more than once: then a flip reaches several places at once."""
        program = self.program(self.batches.kinds[0].example)
        assert isinstance(program, Population)
        names = [layer.name for layer in program.program.layers]
        return len(set(names)) < len(names)

    def pieces(self, objective: str) -> Iterator[Piece]:
        """All samples, checked for the objective."""
        if self._kept is None and self.batches.held and sum(batch.bytes for batch in self.batches) <= KEPT_BYTES:
            self._kept = list(self._turned(self.batches))
        for piece in self._turned(self.batches) if self._kept is None else self._kept:
            if objective in CLASS_LOSSES and piece.classes is None:
                _classes(objective, piece.turned.samples, self._program(piece.kind, keep=False), piece.targets)
            yield piece

    def _turned(self, batches: Iterable[Batch]) -> Iterator[Piece]:
        for batch in batches:
            for chunk in self.arena.first_to_go(batch.to, self.forward.device).chunks(batch.piece):
                yield self.arena.first_to_go(self._piece, chunk)

    def _piece(self, chunk: Batch) -> Piece:
        dense = self.forward.dense(chunk) if self.compared else None
        if dense is not None and self.compared == "kl_to_dense":
            dense = F.log_softmax(dense, dim=1)
        turned = self._turn(chunk, dense)
        try:
            classes = _classes(CLASS_LOSSES[0], chunk.size, self.program(chunk), chunk.targets)
        except ValueError:  # it passes through when an objective asks for classes
            classes = None
        return Piece(chunk.signature, chunk, turned, dense, chunk.targets, classes)

    def _turn(self, batch: Batch, dense: Tensor | None) -> Any:
        program = self.program(batch)
        check_indices(self._graphs[batch.signature], self.forward.state, batch.inputs())
        return program.turn(batch.inputs(), batch.size, dense)


def why_not_compiled(plan: bool, backend: str, dtype: torch.dtype) -> str:
    """Why no plan runs, or "". plan: whether one was asked for."""
    if not plan:
        return "plan=False"
    if backend not in ("native", "numba", "triton"):
        return f"the plan runs on the native, the numba and the triton backend, not on {backend}"
    if dtype != torch.float32:
        return f"the plan runs in float32, not in {str(dtype).removeprefix('torch.')}"
    return ""


def _classes(objective: str, samples: int, program: Runner, targets: Tensor | None) -> Tensor:
    """The targets as the kernels read them, which look classes up unchecked; an error where they are none."""
    outputs = torch.empty(samples, *program.output_shape, device="meta")
    check_targets(objective, outputs, targets)
    assert targets is not None
    return targets.long().contiguous()
