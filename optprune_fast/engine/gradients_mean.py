"""The mean gradient over a few samples, for searches that take many small steps.

Torch's own threads round differently in other numbers, so each thread takes chunks of samples, one thread of torch's
each, and the chunks and the order in which they are added depend on nothing but the network and the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy, deepcopy
from functools import partial
from queue import SimpleQueue

import torch
from torch import Tensor, nn

from optprune_fast.engine.batches import Batch
from optprune_fast.engine.forward import MaskedForward
from optprune_fast.engine.gradients_sums import Problem
from optprune_fast.engine.objective import Objective
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.plan.model import eval_mode
from optprune_fast.runtime.threads import one_thread, thread_count

CHUNK_BYTES = 8 << 20  # of a chunk's largest values: smaller ones cost calls, larger ones leave threads without work

Gradients = list[Tensor | None]


def mean_gradients(forward: MaskedForward, objective: Objective, batches: Iterable[Batch], mask: PackedMasks,
                   memory: int, sample_bytes: int) -> dict[str, Tensor]:
    """{name: mean gradient} of the effective weights under one mask, zeros where the objective has none.

    sample_bytes:  of the largest values of a sample
    """
    weights = forward.effective(mask)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    chunks = [chunk for batch in batches for chunk in batch.chunks(chunk_size(batch.size, sample_bytes))]
    with eval_mode(forward.model), one_thread(), _workers(forward, objective, len(chunks)) as each:
        for found in each(lambda own, chunk: _sums(Problem(own, objective, weights, memory), chunk), chunks):
            for name, gradient in zip(weights, found, strict=True):
                if gradient is not None:
                    total[name] += gradient
    samples = sum(chunk.size for chunk in chunks)
    return {name: gradient / max(1, samples) for name, gradient in total.items()}


def chunk_size(samples: int, sample_bytes: int) -> int:
    """Samples of a chunk, so that a power of two of them makes a batch.

    >>> chunk_size(256, 196_608), chunk_size(256, 480), chunk_size(100, 1 << 30)
    (32, 256, 1)
    """
    parts = max(1, -(-samples * sample_bytes // CHUNK_BYTES))
    return max(1, -(-samples // (1 << (parts - 1).bit_length())))


def _sums(problem: Problem, batch: Batch) -> Gradients:
    """Of the gradients over samples."""
    leaves = {name: weight.detach().requires_grad_() for name, weight in problem.weights.items()}
    with torch.enable_grad():
        loss = problem.loss(leaves, batch.args, batch.kwargs, batch.targets, problem.dense_outputs(batch))
    if not loss.requires_grad:  # an objective of steps, as "error" is
        return [None] * len(leaves)
    return list(torch.autograd.grad(loss, list(leaves.values()), allow_unused=True))


Work = Callable[[MaskedForward, Batch], Gradients]


@contextmanager
def _workers(forward: MaskedForward, objective: Objective, chunks: int) -> Iterator[
        Callable[[Work, list[Batch]], Iterable[Gradients]]]:
    """`map` over chunks, in order, on as many threads as there are, each with a model of its own: `functional_call`
    puts tensors into modules while it runs. An objective of the caller's may not be made for threads."""
    threads = min(chunks, thread_count()) if objective.named and forward.device.type == "cpu" else 1
    models = _copies(forward.model, threads) if threads > 1 else [forward.model]
    if len(models) == 1:
        yield lambda work, parts: (work(forward, part) for part in parts)
        return
    free: SimpleQueue[MaskedForward] = SimpleQueue()
    for model in models:
        own = copy(forward)
        own.model = model
        free.put(own)

    def with_one(work: Work, chunk: Batch) -> Gradients:
        own = free.get()
        try:
            return work(own, chunk)
        finally:
            free.put(own)

    with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) as pool:
        yield lambda work, parts: pool.map(partial(with_one, work), parts)


def _copies(model: nn.Module, number: int) -> list[nn.Module]:
    """The model and copies of it that share its tensors; the model alone where it cannot be copied."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    try:
        return [model, *(deepcopy(model, dict(shared)) for _ in range(number - 1))]
    except (TypeError, RuntimeError, AttributeError, NotImplementedError):
        return [model]
