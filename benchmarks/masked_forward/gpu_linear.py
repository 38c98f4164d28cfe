"""masked_linear on a GPU, candidates that share an input: each backend, and each CUDA kernel, beside torch's
vmap.

`make gpu-check` runs it; there is no other command. A way that is wrong gets no time.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optprune_fast.ops.masked_linear import cuda_impl, masked_linear, operation
from optprune_fast.ops.masked_linear.reference import masked_linear_reference
from optprune_fast.ops.words import pack, unpack
from optprune_fast.testing.tolerance import assert_as_accurate

Run = Callable[[Tensor, Tensor, Tensor], Tensor]
CHECKED = 4  # candidates that are compared with float64


@dataclass(frozen=True)
class Case:
    """P candidates of one layer, B samples."""

    P: int
    B: int
    O: int  # noqa: E741
    I: int  # noqa: E741

    def __str__(self) -> str:
        return f"P{self.P}-B{self.B}-O{self.O}-I{self.I}"


CASES = (Case(64, 256, 300, 784), Case(1024, 256, 300, 784), Case(256, 256, 1024, 1024))


@dataclass(frozen=True)
class Row:
    case: str
    dtype: str
    implementation: str
    median_us: float
    mad_us: float
    tflops: float
    times_vmap: float
    error: float


def operands(P: int, B: int, O: int, I: int, dtype: torch.dtype, device: str  # noqa: E741
             ) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(P + B + O + I)
    x, weight = (torch.randn(n, I, generator=generator).to(dtype) for n in (B, O))
    words = torch.stack([pack(torch.rand(O, I, generator=generator) < 0.05) for _ in range(P)])
    return x.to(device), weight.to(device), words.to(device)


def vmap_over(dense: Tensor) -> Run:
    """What a user could already do: one mask of the weights' dtype per candidate, unpacked before the clock starts."""
    linear = torch.nn.functional.linear
    return lambda x, weight, words: torch.vmap(lambda mask: linear(x, weight * mask))(dense)


def linear_ways(backend: str, x: Tensor, weight: Tensor) -> Iterator[tuple[str, Run]]:
    """(name, call) of a backend that serves the call; the CUDA kernels one by one, the one that is taken first."""
    if backend != "cuda":
        yield "torch loop" if backend == "torch" else backend, functools.partial(masked_linear, backend=backend)
        return
    for way in cuda_impl.ways(x, weight):
        yield f"cuda {way}", functools.partial(cuda_impl.run, way=way)


def measure(device: str, case: Case, backends: Sequence[str],
            times_us: Callable[[Callable[[], object], str], list[float]]) -> Iterator[Row]:
    """A row for each implementation that takes the case, vmap first. AssertionError if one is wrong."""
    for dtype in (torch.float32, torch.bfloat16):
        x, weight, words = operands(case.P, case.B, case.O, case.I, dtype, device)
        runs: dict[str, Run] = {"torch vmap": vmap_over(unpack(words, case.I).to(dtype))}
        for backend in backends:
            if operation.reason(backend, x, weight, words) is None:
                runs.update(linear_ways(backend, x, weight))
        few = words[:CHECKED]
        exact = masked_linear_reference(x, weight, few)
        magnitude = float(masked_linear_reference(x.abs(), weight.abs(), few).max())
        plain = masked_linear(x, weight, few, backend="torch")
        vmap_median = 0.0
        for name, run in runs.items():
            result = run(x, weight, words)[:CHECKED]
            assert_as_accurate(result, plain, exact, terms=case.I, magnitude=magnitude)
            times = times_us(functools.partial(run, x, weight, words), device)
            median = statistics.median(times)
            vmap_median = vmap_median or median
            yield Row(str(case), str(dtype).removeprefix("torch."), name, median,
                      statistics.median(abs(t - median) for t in times),
                      2e-6 * case.P * case.B * case.O * case.I / median, vmap_median / median,
                      float((result.double() - exact).abs().max()))


def table(rows: Sequence[Row]) -> str:
    head = (f"{'case':<24}{'dtype':<10}{'implementation':<16}{'us':>10}{'MAD':>8}{'TFLOP/s':>9}{'x vmap':>8}"
            f"{'error':>10}")
    return "\n".join([head, *(
        f"{r.case:<24}{r.dtype:<10}{r.implementation:<16}{r.median_us:>10.1f}{r.mad_us:>8.1f}{r.tflops:>9.2f}"
        f"{r.times_vmap:>8.2f}{r.error:>10.1e}" for r in rows)])
