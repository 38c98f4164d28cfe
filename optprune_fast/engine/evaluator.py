"""The evaluator: fitness of many masks of one network on calibration data."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import copy
from functools import cached_property

import torch
from torch import Tensor, nn

from optprune_fast.engine import gradients, look_up
from optprune_fast.engine import objective as objectives
from optprune_fast.engine.batches import Batch, Data
from optprune_fast.engine.chunks import ChunkPlan, sample_bytes
from optprune_fast.engine.compiled import CompiledForward, why_not_compiled
from optprune_fast.engine.explain import explanation
from optprune_fast.engine.families import distinct
from optprune_fast.engine.forward import MaskedForward, say_mode
from optprune_fast.engine.gradients_mean import mean_gradients
from optprune_fast.engine.hand_over import HandOver, asked_for
from optprune_fast.engine.logit_scale import check_logit_scale
from optprune_fast.engine.objective import Objective, UserObjective, ordered_sum
from optprune_fast.engine.passes import Batches, Pass
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import check_keeps_budget, check_moves, swap
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.precision import DEFAULT
from optprune_fast.runtime.errors import message

REUSE = ("duplicates", "prefix", "delta")


class Evaluator:
    """Fitness of candidate masks of one network, many at once, lower is better.

    model:      any `nn.Module`; it is evaluated in eval mode and never changed
    data:       calibration samples: `(inputs, targets)`, a dict batch, or an iterable of batches (a `DataLoader`)
    objective:  "cross_entropy", "error", "kl_to_dense", "mse_to_dense", or a callable `(outputs, targets)`:
                results [B] are averaged over samples; a scalar result makes it be called once a candidate
    backend:    "auto", "native", "numba", "triton", "cuda" or "torch"
    layout:     which weights are prunable; `MaskLayout.of(model)` if not given
    memory:     bytes of activations and weights that a chunk may take; results agree however it is chunked. None is
                32 MiB on a CPU, about what its caches and its allocator reuse, and 1 GiB on a GPU

    plan:       capture the network, where the native, the Numba or the Triton backend can, and run it whole; False
                runs layer by layer under `vmap`. Both agree within rounding
    reuse:      work that a plan avoids. "duplicates": equal candidates are evaluated once. "prefix": candidates that
                agree with a parent in their first layers start from its activations; both change no bit. "delta":
                in a plain chain of linear layers a child adds differences to its parent's sums, so fitness depends,
                within rounding, on who is evaluated beside it: not among the default ones
    precision:  how masked layers multiply in float32, where the backend is triton: "fp32", exact to float32; "tf32x3",
                nearly so, "tf32", "fp16" and "bf16" in tensor cores (`ops/precision.py`). Sums and the rest of the
                network stay float32. Other backends refuse all but "fp32"
    stream:     for data larger than memory: read them anew in every evaluation, and hold a few batches at a time. They
                must give the same samples each time they are iterated over (a `DataLoader`, a list, memory-mapped
                tensors); their number and shapes are checked each time, NaN once. Results are those of held data within
                rounding, and the same bits where the network runs whole

    hand_over:  with backend "auto", candidates so dense that torch should be faster than the native plan go to torch,
                by a rule that `explain()` states and no clock decides. False keeps them, and bits then are the same
                on every CPU; so does backend="native"
    lookup:     where many candidates are evaluated at once and most weights are kept, the first layer, a linear one,
                goes by table look-up if that is predicted to be faster, by a rule that `explain()` names and no clock
                decides. Sums are then added in another order, so within rounding fitness depends on how many are
                evaluated in a call and what they keep, and on the CPU: not the default. What `hand_over` gives to
                torch does not come here

    Weights are a snapshot: `refresh()` takes them anew. Fitness is the mean over samples, however they are batched.

    logit_scale:  what the outputs are multiplied with before cross-entropy is taken, which tells how sure a network
                is beside how often it is right. A pruned network's logits are small; see `prune`

    Raises `ValueError` for empty data, NaN, targets that the outputs do not have, or a model without prunable
    weights, `TypeError` for data that cannot be read (streamed: a second time), and `BackendError` for a backend that
    cannot run here.

    >>> model = nn.Linear(3, 2, bias=False)
    >>> ev = Evaluator(model, (torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])), backend="torch")
    >>> ev(PackedMasks.full(ev.layout))
    tensor([0.6931])
    """

    def __init__(self, model: nn.Module, data: Data, objective: str | UserObjective = "cross_entropy",
                 backend: str = "auto", *, layout: MaskLayout | None = None, memory: int | None = None,
                 plan: bool = True, reuse: Collection[str] = ("duplicates", "prefix"),
                 stream: bool = False, hand_over: bool = True, lookup: bool = False,
                 logit_scale: float = 1.0, precision: str = DEFAULT) -> None:
        if isinstance(reuse, str) or not set(reuse) <= set(REUSE):
            raise ValueError(message("Evaluator", f"reuse is a collection of {', '.join(map(repr, REUSE))}",
                                     "reuse=() evaluates each candidate on its own", reuse=reuse))
        check_logit_scale("Evaluator", logit_scale, objective)
        self.reuse = frozenset(reuse)
        self.layout = MaskLayout.of(model) if layout is None else layout
        self._forward = MaskedForward(model, self.layout, backend, logit_scale, precision)
        self.backend = self._forward.resolve(whole=plan)
        self.batches = Batches(data, stream)
        self.samples = self.batches.size
        self.memory = (32 << 20 if self._forward.device.type == "cpu" else 1 << 30) if memory is None else memory
        say_mode(model)
        self._probe(objective)
        self._last_masks: PackedMasks | None = None  # a few, for `explain` to time
        self._compiled = CompiledForward(self._forward, self.layout, self.batches, self.backend,
                                         why_not_compiled(plan, self.backend, self._forward.dtype),
                                         self.objective.name if self.objective.needs_dense else "", self.memory,
                                         lookup)
        never = "" if hand_over else "hand_over=False"
        self._hand_over = HandOver(self._compiled, never or asked_for(backend), self.plan(1).samples)

    def __call__(self, masks: PackedMasks, parents: PackedMasks | None = None) -> Tensor:
        """Tensor [P]: fitness of each mask.

        parents:  masks that candidates may have come from, those of the last generation for example; None looks for
                  relatives among the candidates. See `reuse`
        """
        self._check(masks)
        if parents is not None:
            self._check(parents)
        if self.objective.whole is not None:
            return self._whole(masks)
        if self._compiled.takes(self.objective):
            return self._each_once(masks, self.objective.name, parents)
        total = self._zeros(len(masks))
        for rows, _, outputs, batch, dense in self._passes(masks):
            total[rows] += ordered_sum(self.objective.per_sample(outputs, batch.targets, dense))
        return (total / self.samples).to(self.fitness_dtype)

    def outputs(self, masks: PackedMasks) -> Tensor:
        """Tensor [P, B, …]: outputs of the network under each mask, times `logit_scale`, samples in the order of the
        data."""
        self._check(masks)
        return self._outputs_and_targets(masks)[0]

    def output_parts(self, mask: PackedMasks) -> Iterator[tuple[Tensor, Tensor | None]]:
        """(outputs [B, …], targets [B, …] or None) under one mask, some samples at a time, in the order of the data;
        samples may have several shapes, and only the part that is looked at is in memory."""
        self._check_one("output_parts", mask)
        for _, _, outputs, batch, _ in self._passes(mask):
            yield outputs[0], batch.targets

    def metrics(self, masks: PackedMasks) -> dict[str, Tensor]:
        """{"loss": [P], …}: the objective as "loss"; with class targets also "accuracy" (a fraction) and
        "cross_entropy", at `logit_scale`."""
        self._check(masks)
        if not self._has_classes:
            return {"loss": self(masks)}
        if self._compiled.ready:
            classes = {name: self._each_once(masks, name) for name in ("error", "cross_entropy")}
            same = self.objective.named and self.objective.name in classes
            loss = classes[self.objective.name] if same else self(masks)
            return {"loss": loss, "accuracy": 1 - classes["error"], "cross_entropy": classes["cross_entropy"]}
        wrong, entropy = self._zeros(len(masks)), self._zeros(len(masks))
        own = self._zeros(len(masks))
        per_sample = self.objective.whole is None
        for rows, _, outputs, batch, dense in self._passes(masks):
            wrong[rows] += ordered_sum(objectives.error(outputs, batch.targets))
            entropy[rows] += ordered_sum(objectives.cross_entropy(outputs, batch.targets))
            if per_sample:
                own[rows] += ordered_sum(self.objective.per_sample(outputs, batch.targets, dense))
        loss = (own / self.samples).to(self.fitness_dtype) if per_sample else self(masks)
        return {"loss": loss, "accuracy": (1 - wrong / self.samples).to(self.fitness_dtype),
                "cross_entropy": (entropy / self.samples).to(self.fitness_dtype)}

    def moves(self, parent: PackedMasks, moves: Tensor, *, keep_budget: bool = False) -> Tensor:
        """Tensor [M]: fitness of `parent` after each move; the parent stays as it is.

        moves:        int64 [M, F], flat weight indices in layout order, -1 fills; each index toggles its weight
        keep_budget:  a move that changes how many weights are kept is a `ValueError` that names it, before any work

        What the flips reach is computed anew, so this is the fitness of the moved masks bit for bit; in the linear
        layers that end a network, on the native backend, differences spread, and it is so within rounding.

        >>> ev = Evaluator(nn.Linear(3, 2), (torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])), backend="torch")
        >>> parent = PackedMasks.from_indices(ev.layout, torch.tensor([0, 1]))
        >>> ev.moves(parent, torch.tensor([[0, 5], [1, 2]]), keep_budget=True).shape
        torch.Size([2])
        """
        self._check(parent)
        check_moves(parent, moves)
        if keep_budget:
            check_keeps_budget(parent, moves)
        if self._compiled.takes(self.objective) and self._compiled.starts_from_parents and moves.numel():
            sums = [self._compiled.move_sums(parent.words, some, self.objective.name) for some in moves.split(4096)]
            return (torch.cat(sums) / self.samples).to(self.fitness_dtype)
        parts = [self(swap(parent, some)) for some in moves.split(4096)]
        return torch.cat(parts) if parts else self._zeros(0).to(self.fitness_dtype)

    def accept(self, parent: PackedMasks, move: Tensor, *, keep_budget: bool = False) -> PackedMasks:
        """The parent after one move, int64 [F]; `keep_budget` as in `moves`."""
        self._check(parent)
        child = swap(parent, move.reshape(1, -1))
        if keep_budget:
            check_keeps_budget(parent, move.reshape(1, -1))
        return child

    def gradients(self, mask: PackedMasks) -> dict[str, tuple[Tensor, Tensor]]:
        """{name: (g, F)}: for every effective weight, dropped ones included, the mean gradient of the objective and
        the mean squared per-sample gradient; both have the weight's shape.

        Runs on one thread: matrix products round differently on several, and searches must repeat bit for bit.
        """
        self._check_for_gradients("gradients", mask)
        weights = self._forward.effective(mask)
        return gradients.gradients(self._forward, self.objective, self._on_device(), weights, self.memory)

    def mean_gradients(self, mask: PackedMasks, samples: Tensor) -> dict[str, Tensor]:
        """{name: g}: for every effective weight the mean gradient over some samples, int64 [S], as numbers in the order
        of the data: what a step of a stochastic search needs, without the squares of `gradients`.

        Threads share the samples in fixed chunks, each on one thread of torch's, so that no bit depends on how many
        there are. An objective of the caller's is called on one thread.
        """
        self._check_for_gradients("mean_gradients", mask)
        picked = (batch.to(self._forward.device) for batch in self.batches.pick(samples))
        return mean_gradients(self._forward, self.objective, picked, mask, self.memory, self._sample_bytes)

    def subset(self, samples: Tensor) -> Evaluator:
        """An evaluator of the same network on some of the samples, int64 [S], as numbers in the order of the data.

        It shares the captured plan and the snapshot of the weights; after `refresh()`, make it anew.

        >>> ev = Evaluator(nn.Linear(3, 2), (torch.randn(4, 3), torch.tensor([0, 1, 0, 1])), backend="torch")
        >>> ev.subset(torch.tensor([0, 2])).samples
        2
        """
        return self._over(self.batches.subset(samples))

    def on(self, data: Data) -> Evaluator:
        """An evaluator of the same network on other data, which it holds. Like `subset` it shares the captured plan and
        the snapshot of the weights.

        >>> ev = Evaluator(nn.Linear(3, 2), (torch.randn(4, 3), torch.tensor([0, 1, 0, 1])), backend="torch")
        >>> ev.on((torch.randn(7, 3), torch.tensor([0] * 7))).samples
        7
        """
        other = self._over(Batches(data))
        example = other._example()
        outputs = other._forward.dense(example)
        other._has_classes = objectives.has_classes(outputs, example.targets)
        other._check_targets()
        return other

    def scaled(self, logit_scale: float) -> Evaluator:
        """An evaluator of the same network on the same data, with this scale of the logits. It shares the snapshot of
        the weights; after `refresh()`, make it anew.

        >>> ev = Evaluator(nn.Linear(3, 2), (torch.randn(4, 3), torch.tensor([0, 1, 0, 1])), backend="torch")
        >>> full = PackedMasks.full(ev.layout)
        >>> bool((ev.scaled(2.0).outputs(full) == 2 * ev.outputs(full)).all())
        True
        """
        check_logit_scale("Evaluator.scaled", logit_scale, self.objective.name if self.objective.named else None)
        if logit_scale == self.logit_scale:
            return self
        forward = copy(self._forward)
        forward.logit_scale = logit_scale
        return self._through(forward)

    @property
    def logit_scale(self) -> float:
        return self._forward.logit_scale

    def in_fp32(self) -> Evaluator:
        """An evaluator of the same network on the same data, whose masked layers multiply in fp32, as every backend's
        can. It shares the snapshot of the weights; after `refresh()`, make it anew.

        >>> ev = Evaluator(nn.Linear(3, 2), (torch.randn(4, 3), torch.tensor([0, 1, 0, 1])), backend="torch")
        >>> ev.in_fp32() is ev
        True
        """
        if self.precision == DEFAULT:
            return self
        forward = copy(self._forward)
        forward.precision = DEFAULT
        return self._through(forward)

    @property
    def precision(self) -> str:
        return self._forward.precision

    def _through(self, forward: MaskedForward) -> Evaluator:
        """The same, by way of this one."""
        other = copy(self)
        other._forward, other._last_masks = forward, None
        other._compiled = self._compiled.through(forward)
        other._hand_over = self._hand_over.over(other._compiled)
        return other

    def _over(self, batches: Batches) -> Evaluator:
        other = copy(self)
        other.batches, other.samples, other._last_masks = batches, batches.size, None
        other._compiled = self._compiled.over(batches)
        other._hand_over = self._hand_over.over(other._compiled)
        return other

    def _check_targets(self) -> None:
        if self.objective.needs_targets:
            for kind in self.batches.kinds:  # sequences of other lengths, for example
                objectives.check_targets(self.objective.name, self._dense(kind.example), kind.extremes)

    @cached_property
    def multiply_adds(self) -> int:
        """Of the dense network for one sample, as torch counts them: what decides which searches can be afforded."""
        from torch.utils.flop_counter import FlopCounterMode  # it imports triton

        example = self._example()
        with FlopCounterMode(display=False) as counter:
            self._forward.dense(example)
        return int(counter.get_total_flops()) // (2 * example.size)

    @property
    def weights(self) -> dict[str, Tensor]:
        """{name: weight}: the snapshot of the prunable weights, in layout order."""
        return {layer.name: self._forward.state[layer.name] for layer in self.layout}

    def refresh(self) -> None:
        """Take the model's weights, buffers and dense outputs anew."""
        self._forward.refresh()
        self._compiled.refresh()

    def explain(self, density: float | None = None) -> str:
        """Which way the network runs, which backend serves each layer, and why not the others.

        density:  of each prunable layer, in [0, 1]: what the steps of a native plan should take, predicted from what
                  multiply-adds and bytes take on this machine. None predicts for a few of the masks evaluated last,
                  and measures them; before there are any, for the dense network

        Raises `ValueError` for a density outside.
        """
        if density is not None and not 0 <= density <= 1:
            raise ValueError(message("Evaluator.explain", "density must lie in [0, 1]", density=density))
        return explanation(self, density)

    def plan(self, candidates: int) -> ChunkPlan:
        """How many of `candidates` and how many samples go through at once."""
        return ChunkPlan.of(self.memory, self._sample_bytes, self._weight_bytes, candidates, self.samples)

    def _candidates(self, masks: PackedMasks) -> Iterator[tuple[PackedMasks, slice]]:
        step = self.plan(len(masks)).candidates
        for start in range(0, len(masks), step):
            yield masks[start:start + step], slice(start, start + step)

    def _passes(self, masks: PackedMasks) -> Iterator[Pass]:
        """Every candidate on every sample, in one pass over the data."""
        step, first = self.plan(len(masks)).samples, 0
        for batch in self._on_device():
            for chunk in batch.chunks(step):
                dense = self._dense(chunk) if self.objective.needs_dense else None
                samples = slice(first, first + chunk.size)
                for part, rows in self._candidates(masks):
                    yield Pass(rows, samples, self._outputs(part, chunk), chunk, dense)
                first += chunk.size

    def _outputs_and_targets(self, masks: PackedMasks) -> tuple[Tensor, Tensor | None]:
        """[P, B, …] and [B, …] of all samples."""
        examples = [self._dense(kind.example) for kind in self.batches.kinds]
        shapes = {example.shape[1:] for example in examples}
        if len(shapes) > 1:
            raise ValueError(message("Evaluator.outputs", "samples give outputs of different shapes",
                                     "evaluate batches of one shape", shapes=sorted(map(list, shapes))))
        joined, targets = examples[0].new_empty(len(masks), self.samples, *shapes.pop()), []
        for rows, samples, outputs, batch, _ in self._passes(masks):
            joined[rows, samples] = outputs
            if rows.start == 0 and batch.targets is not None:
                targets.append(batch.targets)
        return joined, torch.cat(targets) if targets else None

    def _outputs(self, masks: PackedMasks, batch: Batch) -> Tensor:
        if self._compiled.ready:
            return self._compiled.outputs(masks.words, batch)
        return self._forward(masks, batch)

    def _each_once(self, masks: PackedMasks, objective: str, parents: PackedMasks | None = None) -> Tensor:
        """Fitness by the plan, without the work that `reuse` avoids."""
        shown = look_up.MANY if self._compiled.lookup else 4
        self._last_masks = masks[:shown] if len(masks) else self._last_masks
        words, place = distinct(masks.words) if "duplicates" in self.reuse else (masks.words, None)
        related = self.reuse & {"prefix", "delta"} and self._compiled.starts_from_parents
        sums = self._hand_over.sums(words, objective, lambda own: (
            self._compiled.sums(own, objective) if not related else self._compiled.sums_from_parents(
                own, objective, None if parents is None else parents.words, exact="delta" not in self.reuse)))
        return ((sums if place is None else sums[place]) / self.samples).to(self.fitness_dtype)

    def _whole(self, masks: PackedMasks) -> Tensor:
        assert self.objective.whole is not None
        fitness = []
        for part, _ in self._candidates(masks):
            outputs, targets = self._outputs_and_targets(part)
            fitness += [float(self.objective.whole(one, targets)) for one in outputs]
        return torch.tensor(fitness, dtype=self.fitness_dtype, device=self._forward.device)

    def _on_device(self) -> Iterator[Batch]:
        return (batch.to(self._forward.device) for batch in self.batches)

    def _dense(self, batch: Batch) -> Tensor:
        return self._forward.dense(batch.to(self._forward.device))

    def _example(self) -> Batch:
        return self.batches.kinds[0].example.pick(slice(0, 2)).to(self._forward.device)

    def _zeros(self, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.float64, device=self._forward.device)

    def _probe(self, objective: str | UserObjective) -> None:
        """Run two samples once: find the objective, check targets, choose the way, measure the memory."""
        example = self._example()
        outputs = self._forward.dense(example)
        self.objective: Objective = objectives.named_or_own(objective, outputs, example.targets)
        self._has_classes = objectives.has_classes(outputs, example.targets)
        self._check_targets()
        self.fitness_dtype = torch.float64 if outputs.dtype == torch.float64 else torch.float32
        self._sample_bytes = sample_bytes(lambda: self._forward.dense(example), example.size)
        masks = PackedMasks.full(self.layout, self._forward.device)
        self._forward.choose_way(PackedMasks.cat([masks, masks]), example)
        dense = [self.layout[name] for name, (_, choice) in self._forward.record.items() if choice is None]
        self._weight_bytes = sum(layer.rows * layer.columns for layer in dense) * (self._forward.dtype.itemsize + 1)

    def _check_one(self, what: str, mask: PackedMasks) -> None:
        self._check(mask)
        if len(mask) != 1:
            raise ValueError(message(f"Evaluator.{what}", "one mask at a time", "masks[i] is one", mask=mask))

    def _check_for_gradients(self, what: str, mask: PackedMasks) -> None:
        self._check_one(what, mask)
        if self.objective.whole is not None:
            raise ValueError(message(f"Evaluator.{what}", "the objective must give one number a sample",
                                     "a callable that returns [B]", objective=self.objective.name))

    def _check(self, masks: PackedMasks) -> None:
        if masks.layout != self.layout:
            raise ValueError(message("Evaluator", "masks of another layout", "make them from evaluator.layout",
                                     masks=masks, layout_n=self.layout.n, masks_n=masks.layout.n))
        if masks.device != self._forward.device:
            raise ValueError(message("Evaluator", "masks must be on the model's device",
                                     f"masks.to({str(self._forward.device)!r})", masks=masks))
