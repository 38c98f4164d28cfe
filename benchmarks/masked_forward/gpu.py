"""Losses of many masks on a GPU: ours in each precision, and torch in the same, beside a dense product by cuBLAS.

`make gpu-check` runs it; there is no other command. A way that is wrong gets no time. Masks of torch's ways are
unpacked before the clock starts; ours are packed.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optprune_fast.bench.problem import Masks, Problem, fresh_masks
from optprune_fast.bench.rival import Prepared
from optprune_fast.bench.rivals import compiled, loop, vmap
from optprune_fast.engine.device_replay import CudaGraphs
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.models import MLP, LeNet5
from optprune_fast.testing.tolerance import network_limit

Way = Callable[[], Tensor]
Times = Callable[[Callable[[], object], str, int], list[float]]
LOOPED = 256  # candidates: torch's loop over more takes seconds a call
CHECKED = 3  # candidates that are compared with float64
REPEATS, SECONDS = 20, 1.0  # timed calls of a way: so many, or as long, three at least


@dataclass(frozen=True)
class Case:
    """P masks of one network on B samples; compile: whether torch.compile is a rival, which takes long to get ready."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    P: int
    B: int
    compile: bool = False

    def __str__(self) -> str:
        return f"{self.name} P{self.P} B{self.B}"

    def problem(self, device: str) -> Problem:
        torch.manual_seed(0)
        model, inputs = self.make().eval(), torch.randn(self.B, *self.shape)
        targets = torch.randint(model(inputs[:1]).shape[1], (self.B,))
        return Problem(self.name, model.to(device), inputs.to(device), targets.to(device))


_mlp = partial(MLP, [784, 300, 100, 10])
_wide = partial(nn.Linear, 4096, 4096)
CASES = (
    Case("MLP 784-300-100-10", _mlp, (784,), 64, 256, compile=True),
    Case("MLP 784-300-100-10", _mlp, (784,), 4096, 256, compile=True),
    Case("linear 4096x4096", _wide, (4096,), 64, 256),
    Case("linear 4096x4096", _wide, (4096,), 64, 64),
    Case("LeNet-5", LeNet5, (1, 28, 28), 64, 256),
)
PRECISIONS = ("bf16", "tf32", "fp32", "tf32x3")
IN_TORCH = ("bf16", "tf32", "fp32")  # the last two are one setting of torch's


@dataclass(frozen=True)
class Row:
    """times_torch: the time of torch's fastest way over ours;   of_dense: cuBLAS's over ours; 0 where there is none"""

    case: str
    precision: str
    way: str
    median_us: float
    mad_us: float
    tflops: float
    error: float
    times_torch: float = 0.0
    of_dense: float = 0.0


def measure(device: str, case: Case, backend: str, precisions: Sequence[str], times_us: Times) -> Iterator[Row]:
    """Rows of each precision, ours first."""
    problem = case.problem(device)
    masks = Masks(fresh_masks(problem, 0.5, case.P, 0).packed.to(device))
    exact, plain, losses = _exact(problem, masks)
    terms = max(layer.columns for layer in problem.layout)
    uses = problem.uses or {}
    flop = 2e-6 * case.P * case.B * sum(uses.get(n, 0) * w.numel() for n, w in problem.weights.items())
    for precision in precisions:
        limit = network_limit(exact, plain, terms=terms, layers=len(problem.layout), precision=precision)
        found: list[Row] = []
        with torch_precision(precision):
            for name, make in ways(case, problem, masks, backend, precision, device):
                run = make()
                error = 0.0
                if name != "dense product":
                    error = float((run()[:CHECKED].double().cpu() - losses).abs().max())
                    assert error <= limit, f"{precision} {name}: error {error:.3g}, at most {limit:.3g}"
                median, mad = _times(run, device, times_us)
                found.append(Row(str(case), precision, name, median, mad, flop / median, error))
                del run
        yield from _with_ratios(found)


def ways(case: Case, problem: Problem, masks: Masks, backend: str, precision: str, device: str
         ) -> Iterator[tuple[str, Callable[[], Way]]]:
    """(name, what makes it ready): ours, torch's, and the dense product."""
    data = problem.inputs, problem.targets
    yield "ours", lambda: partial(_evaluator(problem, data, backend, precision), masks.packed)
    if precision not in IN_TORCH:
        return
    same = problem if precision != "bf16" else Problem(
        problem.name, copy.deepcopy(problem.model).bfloat16(), problem.inputs.bfloat16(), problem.targets)
    if case.P <= LOOPED:
        yield "loop", lambda: partial(loop.prepare(same, masks).fitness, masks)
    yield "vmap", lambda: partial(vmap.prepare(same, masks).fitness, masks)
    yield "vmap, chunks", lambda: partial(vmap.prepare_chunked(same, masks).fitness, masks)
    if case.compile:
        yield "compiled vmap", lambda: partial(compiled.prepare_vmap(same, masks).fitness, masks)
    if device == "cuda":
        def graph(prepare: Callable[[Problem, Masks], Prepared]) -> Way:
            return _graph(device, partial(prepare(same, masks).fitness, masks))

        yield "graph of vmap", lambda: graph(vmap.prepare)
        if case.compile:
            yield "graph of compiled", lambda: graph(compiled.prepare_vmap)
    if all(isinstance(layer, nn.Linear) for layer in problem.layers.values()):
        yield "dense product", lambda: _dense(same, case)


def _evaluator(problem: Problem, data: tuple[Tensor, Tensor], backend: str, precision: str) -> Evaluator:
    return Evaluator(problem.model, data, backend=backend, precision=precision, memory=8 << 30, reuse=(),
                     hand_over=False)


def _graph(device: str, way: Way) -> Way:
    way()
    replay, out = CudaGraphs(torch.device(device))(way)

    def run() -> Tensor:
        replay()
        return out
    return run


def _dense(problem: Problem, case: Case) -> Way:
    """The products of the linear layers, weights and inputs of each candidate its own: no masks, nothing between."""
    pairs = []
    for weight in problem.weights.values():
        x = torch.randn(case.P, case.B, weight.shape[1], device=weight.device, dtype=weight.dtype)
        pairs.append((x, torch.randn(case.P, *weight.shape, device=weight.device, dtype=weight.dtype).mT))

    def run() -> Tensor:
        out = x
        for inputs, weights in pairs:
            out = torch.bmm(inputs, weights)
        return out
    return run


def _exact(problem: Problem, masks: Masks) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs of the first candidates in float64 and float32, and their losses, on the CPU."""
    outputs = []
    for dtype in (torch.float64, torch.float32):
        model, inputs = copy.deepcopy(problem.model).cpu().to(dtype), problem.inputs.cpu().to(dtype)
        few = masks.packed[:CHECKED].to("cpu").to_dense()
        with torch.inference_mode():
            outputs.append(torch.stack([torch.func.functional_call(
                model, {name: weight.cpu().to(dtype) * few[name][p] for name, weight in problem.weights.items()},
                (inputs,)) for p in range(len(masks.packed[:CHECKED]))]))
    losses = torch.stack([F.cross_entropy(one, problem.targets.cpu()) for one in outputs[0]])
    return outputs[0], outputs[1], losses


def _times(run: Way, device: str, times_us: Times) -> tuple[float, float]:
    first = times_us(run, device, 1)[0]
    times = times_us(run, device, max(3, min(REPEATS, int(1e6 * SECONDS / first))))
    median = statistics.median(times)
    return median, statistics.median(abs(t - median) for t in times)


def _with_ratios(rows: list[Row]) -> Iterator[Row]:
    """The rows, ours beside the fastest of torch's and beside the dense product."""
    torchs = [row.median_us for row in rows if row.way not in ("ours", "dense product")]
    dense = [row.median_us for row in rows if row.way == "dense product"]
    for row in rows:
        ours = row.way == "ours"
        yield Row(row.case, row.precision, row.way, row.median_us, row.mad_us, row.tflops, row.error,
                  min(torchs) / row.median_us if ours and torchs else 0.0,
                  dense[0] / row.median_us if ours and dense else 0.0)


@contextmanager
def torch_precision(name: str) -> Iterator[None]:
    """How torch multiplies float32 on a GPU while ours multiplies in this precision."""
    settings: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [setting.allow_tf32 for setting in settings]
    try:
        for setting in settings:
            setting.allow_tf32 = name == "tf32"
        yield
    finally:
        for setting, was in zip(settings, before, strict=True):
            setting.allow_tf32 = was


def table(rows: Sequence[Row]) -> str:
    head = (f"{'case':<30}{'precision':<10}{'way':<18}{'us':>11}{'MAD':>9}{'TFLOP/s':>9}{'x torch':>9}{'of dense':>9}"
            f"{'error':>10}")
    return "\n".join([head, *(
        f"{r.case:<30}{r.precision:<10}{r.way:<18}{r.median_us:>11.1f}{r.mad_us:>9.1f}{r.tflops:>9.2f}"
        f"{_ratio(r.times_torch):>9}{_ratio(r.of_dense):>9}{r.error:>10.1e}" for r in rows)])


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value else ""
