"""The evaluator: fitness of many masks of one network on calibration data."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from optprune_fast.engine import gradients
from optprune_fast.engine import objective as objectives
from optprune_fast.engine.evaluation import Evaluation
from optprune_fast.engine.explain import explanation
from optprune_fast.engine.gradients_mean import mean_gradients
from optprune_fast.engine.objective import ordered_sum
from optprune_fast.masks.operators import check_keeps_budget, check_moves, swap
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import message


class Evaluator(Evaluation):
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

    >>> from torch import nn
    >>> model = nn.Linear(3, 2, bias=False)
    >>> ev = Evaluator(model, (torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])), backend="torch")
    >>> ev(PackedMasks.full(ev.layout))
    tensor([0.6931])
    """

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

        What the flips reach is computed anew, so this is the fitness of the moved masks bit for bit; where differences
        spread, in the linear layers that end a network on the native backend and in all linear layers on a GPU, it is
        so within rounding.

        >>> from torch import nn
        >>> ev = Evaluator(nn.Linear(3, 2), (torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])), backend="torch")
        >>> parent = PackedMasks.from_indices(ev.layout, torch.tensor([0, 1]))
        >>> ev.moves(parent, torch.tensor([[0, 5], [1, 2]]), keep_budget=True).shape
        torch.Size([2])
        """
        self._check(parent)
        check_moves(parent, moves)
        if keep_budget:
            check_keeps_budget(parent, moves)
        if self._compiled.takes(self.objective) and self._compiled.has_moves and moves.numel():
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
        return self._compiled.arena.first_to_go(lambda: gradients.gradients(
            self._forward, self.objective, self._on_device(), weights, self.memory))

    def mean_gradients(self, mask: PackedMasks, samples: Tensor) -> dict[str, Tensor]:
        """{name: g}: for every effective weight the mean gradient over some samples, int64 [S], as numbers in the order
        of the data: what a step of a stochastic search needs, without the squares of `gradients`.

        Threads share the samples in fixed chunks, each on one thread of torch's, so that no bit depends on how many
        there are. An objective of the caller's is called on one thread.
        """
        self._check_for_gradients("mean_gradients", mask)
        return self._compiled.arena.first_to_go(lambda: mean_gradients(
            self._forward, self.objective, (batch.to(self._forward.device) for batch in self.batches.pick(samples)),
            mask, self.memory, self._sample_bytes))

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
