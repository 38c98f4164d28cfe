"""Sparse linear layers on a GPU: whether they are right there, and their times beside a dense layer of torch's.

`make gpu-check` runs it; there is no other command.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

import optprune_fast as opf
from optprune_fast.deploy import gpu
from optprune_fast.deploy.convert import sparse_layer
from optprune_fast.deploy.report import explain
from optprune_fast.deploy.weight import SparseWeight
from optprune_fast.formats.bits import packed
from optprune_fast.ops.rows_linear import operation, triton_impl
from optprune_fast.testing.rows_code import compile_kernel, configurations
from optprune_fast.testing.samples import samples
from optprune_fast.testing.tolerance import assert_as_accurate
from optprune_fast.testing.variants import moved

LARGEST_CACHE = 256 << 20  # bytes that are written before each run, so that no cache holds a weight


@dataclass(frozen=True)
class Case:
    """A layer of bfloat16 weights, random ones of which are kept."""

    sparsity: float
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    rows: int = 28672
    columns: int = 8192

    @property
    def bytes_needed(self) -> int:
        """What making the weights takes."""
        return 20 * self.rows * self.columns

    def __str__(self) -> str:
        return f"{self.rows} x {self.columns}, {self.sparsity:.0%}"


CASES = tuple(map(Case, (0.5, 0.8, 0.9, 0.95)))


@dataclass(frozen=True)
class Row:
    """way: "dense", or the layout of a sparse layer and who multiplies it; share: of the dense layer's bytes; times: as
    fast as dense."""

    case: dict[str, Any]
    batch: int
    way: str
    median_us: float
    mad_us: float
    share: float
    times: float


# ---- is it right


def faults(device: str) -> list[str]:
    """What is wrong with sparse layers on a device; the samples of rows_linear are judged elsewhere."""
    return [f"sparse layers {name}: {fault}" for name, check in CHECKS.items() for fault in check(device)]


def spills(capability: int) -> Iterator[str]:
    """Kernels whose registers spill on such a card."""
    for name, constants in configurations(torch.bfloat16):
        code = compile_kernel(name, torch.bfloat16, capability, **constants)
        if code.stack_bytes:
            yield f"rows_linear triton {name} {constants}: {code.stack_bytes} bytes spill"


def _round_trip(device: str) -> Iterator[str]:
    """To the device and back: every bit, and what a state dict holds."""
    for coded in (False, True):
        layer, _ = _layer(nn.Linear(700, 90, dtype=torch.bfloat16), coded)
        there = copy.deepcopy(layer).to(device)
        if not there.weight.in_rows:
            yield "the weight does not lie in rows"
        elif not _same(there.state_dict(), layer.state_dict()):
            yield "a state dict differs"
        elif not _same(copy.deepcopy(there).to("cpu").state_dict(), layer.state_dict()):
            yield "bits change on the way there and back"


def _layers(device: str) -> Iterator[str]:
    """Every kind of layer computes what torch's does."""
    one_tap, grouped = nn.Conv2d(64, 32, 1, stride=2), nn.Conv2d(8, 6, 3, padding=1, groups=2)
    for dense, shape in ((nn.Linear(700, 90), (3, 700)), (nn.Conv1d(64, 32, 1), (2, 64, 30)),
                         (one_tap, (2, 64, 9, 8)), (grouped, (2, 8, 9, 7))):
        sparse, x = _layer(dense, None)[0].to(device), torch.randn(shape).to(device)
        difference = float((sparse(x) - sparse.to_dense()(x)).abs().max())
        if not difference < 1e-4:
            yield f"{type(dense).__name__} differs from torch's by {difference:.2g}"


def _wide(device: str) -> Iterator[str]:
    """Where 32-bit offsets suffice, 64-bit ones give the same bits."""
    for sample in samples("rows_linear", torch.bfloat16):
        x, shape, values, places, counts, starts, bias = moved(sample.arguments, device)
        if x.dim() == 2 and x.shape[0] * shape[0]:
            narrow, wide = (x.new_full((x.shape[0], shape[0]), float("nan")) for _ in range(2))
            for out in (narrow, wide):
                triton_impl.launch(x.contiguous(), values, places, counts, starts, bias, out, wide=out is wide)
            if not torch.equal(narrow, wide):
                yield f"{sample.name}: 64-bit offsets change bits"


def _every_kernel(device: str, backends: Sequence[str] = ("cuda", "triton")) -> Iterator[str]:
    """For any number of samples, wherever their rows begin, whole numbers come out exactly."""
    able = [b for b in backends if operation.missing(b) is None]
    for dtype, coded in product((torch.float32, torch.float16, torch.bfloat16), (True, False)):
        for count, moved_by in product((1, 2, 3, 5, 9, 16, 17, 33, 70), (0, 1)):
            generator = torch.Generator().manual_seed(count)
            x, weight = (torch.randint(-2, 3, (n, 1100), generator=generator).to(dtype) for n in (count, 90))
            kept = torch.rand(weight.shape, generator=generator) < 0.2
            planes = gpu.rows_of(packed(kept), weight[kept], weight.shape, coded=coded)
            there = torch.nn.functional.pad(x, (moved_by, 4 - moved_by)).to(device)[:, moved_by : moved_by + 1100]
            for backend in able:
                out = operation(there, weight.shape, *moved(tuple(planes), device), None, backend=backend)
                if not torch.equal(out.cpu().double(), x.double() @ (weight * kept).double().T):
                    yield f"{backend} {dtype} {'words' if coded else 'columns'}: {count} samples come out wrong"


def _two_of_four(device: str) -> Iterator[str]:
    """torch's semi-structured weights stand in where they are smallest, and give what a dense layer gives."""
    model = nn.Linear(512, 256, dtype=torch.bfloat16, device=device).requires_grad_(False)
    mask = opf.magnitude(model, sparsity=0.5, scope="2:4").mask
    net = opf.convert(model, mask, prefer="memory")
    if explain(net).rows[0].format != "two_four":
        yield f"2:4 is held as {explain(net).rows[0].format}"
        return
    x = torch.randn(64, 512, dtype=torch.bfloat16, device=device)
    dense = nn.functional.linear(x, model.weight * mask.to_dense()["weight"][0].to(device), model.bias)
    if not torch.allclose(net(x), dense, atol=0.05, rtol=0.05):
        yield "2:4 differs from a dense layer"


CHECKS: dict[str, Callable[[str], Iterator[str]]] = {
    "round trip": _round_trip, "layers": _layers, "every kernel": _every_kernel, "offsets": _wide, "2:4": _two_of_four}


def _layer(dense: Any, coded: bool | None) -> tuple[Any, Tensor]:
    generator = torch.Generator().manual_seed(1)
    kept = torch.rand(dense.weight.shape, generator=generator) < 0.3
    weight = SparseWeight.of(packed(kept.flatten(1)), dense.weight.detach()[kept], dense.weight.shape,
                             groups=getattr(dense, "groups", 1), coded=coded)
    return sparse_layer(dense, weight, "").requires_grad_(False), kept


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name].cpu(), other[name].cpu()) for name in one)


# ---- how long it takes


def measure(device: str, case: Case, backends: Sequence[str],
            times_us: Callable[..., list[float]]) -> Iterator[Row]:
    """A row for each way and batch; no cache holds a weight when a run begins. AssertionError if one is wrong."""
    able = [b for b in ("cuda", "triton") if b in backends and operation.missing(b) is None] or ["torch"]
    flushed = torch.empty(LARGEST_CACHE if device == "cuda" else 1, dtype=torch.uint8, device=device)
    dense, planes = _weights(case, device)
    for batch in case.batches:
        x = torch.randn(batch, case.columns, device=device, dtype=dense.dtype)
        plain = _timed(partial(nn.functional.linear, x, dense), times_us, device, flushed)
        yield Row(asdict(case), batch, "dense", *plain, 1.0, 1.0)
        for (way, held), backend in product(planes.items(), able):
            run = partial(operation, x, (case.rows, case.columns), *held, None, backend=backend)
            _judge(run(), x, dense)
            taken = _timed(run, times_us, device, flushed)
            share = sum(plane.nbytes for plane in held) / dense.nbytes
            yield Row(asdict(case), batch, f"{way} {backend}", *taken, share, plain[0] / taken[0])


def _weights(case: Case, device: str) -> tuple[Tensor, dict[str, Any]]:
    """The dense weight with zeros, and the rows of it by each kind of places."""
    shape, generator = (case.rows, case.columns), torch.Generator(device).manual_seed(0)
    kept = torch.rand(shape, device=device, generator=generator) >= case.sparsity
    dense = torch.randn(shape, device=device, generator=generator, dtype=torch.bfloat16)
    words, values = packed(kept), dense[kept]
    return dense.mul_(kept), {way: gpu.rows_of(words, values, shape, coded=way == "bitmask")
                              for way in ("bitmask", "index")}


def _judge(out: Tensor, x: Tensor, dense: Tensor, outputs: int = 512) -> None:
    """The tolerance rule on some outputs."""
    few, x64 = dense[:outputs], x.double()
    magnitude = float((x64.abs() @ few.double().abs().T).max())
    assert_as_accurate(out[:, :outputs], nn.functional.linear(x, few), x64 @ few.double().T, terms=x.shape[1],
                       magnitude=magnitude)


def _timed(run: Callable[[], object], times_us: Callable[..., list[float]], device: str, flushed: Tensor
           ) -> tuple[float, float]:
    times = times_us(run, device, before=flushed.zero_)
    median = statistics.median(times)
    return median, statistics.median(abs(t - median) for t in times)


def table(rows: Sequence[Row]) -> str:
    head = f"{'sparsity':>9}{'batch':>7}  {'way':<16}{'us':>10}{'MAD':>8}{'bytes':>8}{'x dense':>9}"
    return "\n".join([head, *(
        f"{r.case['sparsity']:>9.0%}{r.batch:>7}  {r.way:<16}{r.median_us:>10.1f}{r.mad_us:>8.1f}"
        f"{r.share:>8.1%}{r.times:>9.2f}" for r in rows)])
