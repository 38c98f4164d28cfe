"""The same on a GPU: ours, and what torch has, beside one read of the weights and one write of words.

`make gpu-check` runs it; there is no other command.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.threshold.rivals import ours, torch_kthvalue, torch_sort, torch_topk
from benchmarks.threshold.task import DTYPES, Case, WrongMask, check
from optprune_fast.ops.topk_threshold import operation
from optprune_fast.ops.words import unpack

CASES = (*(Case(n) for n in (10**7, 10**8, 10**9)), Case(10**9, dtype="bfloat16"), Case(10**8, dtype="float16"),
         Case(10**8, keep=0.5), Case(10**8, tensors=200), Case(10**8, columns=1000), Case(10**8, columns=27),
         Case(10**8, pool=0.1), Case(10**8, values="half pruned", keep=0.75),
         Case(10**8, values="half pruned", keep=0.5))
KTHVALUE_LIMIT = 10**7  # torch's takes one block of threads for all weights
CHUNK = 1 << 24


@dataclass(frozen=True)
class Row:
    case: dict[str, Any]
    way: str
    median_us: float
    mad_us: float
    floor_us: float
    times_floor: float


def make(case: Case, device: str) -> list[Tensor]:
    """The tensors of a case, made where they are used."""
    generator = torch.Generator(device).manual_seed(0)
    made = []
    for rows in case.rows:
        weight = torch.empty(rows, case.columns, device=device).normal_(0, 0.02, generator=generator)
        if case.values == "half pruned":
            weight.mul_(torch.empty_like(weight).bernoulli_(0.5, generator=generator))
        made.append(weight.to(DTYPES[case.dtype]))
    return made


def check_words(tensors: Sequence[Tensor], words: Sequence[Tensor], k: int, threshold: float) -> None:
    """Raise `WrongMask` unless these are the first k, ties by position; a part at a time, for there may be 10^9."""
    kept, tied, dropped = 0, 0, False
    for weight, packed in zip(tensors, words, strict=True):
        step = max(1, CHUNK // weight.shape[1])
        for first in range(0, len(weight), step):
            magnitudes = weight[first : first + step].abs().float()
            mask = unpack(packed[first : first + step], weight.shape[1])
            if bool((mask & (magnitudes < threshold)).any()) or bool((~mask & (magnitudes > threshold)).any()):
                raise WrongMask("not the largest weights")
            ties = mask[magnitudes == threshold]
            taken = int(ties.sum())
            if (dropped and taken) or not bool(ties[:taken].all()):
                raise WrongMask("not the first of those that equal the threshold")
            kept, tied, dropped = kept + int(mask.sum()), tied + taken, dropped or taken < len(ties)
    if kept != k or (k and not tied):
        raise WrongMask(f"{kept} weights kept, not {k}; {tied} equal the threshold")


def plain_floor(tensors: Sequence[Tensor]) -> Callable[[], object]:
    """A read and a write by torch, where there is no Triton."""
    words = [torch.empty(t.numel() // 64 + 1, dtype=torch.int64, device=t.device) for t in tensors]
    return lambda: [(t.amax(), w.zero_()) for t, w in zip(tensors, words, strict=True)]


def ways(case: Case, tensors: list[Tensor], backends: Sequence[str]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Ways that take the case, each checked once."""
    pool = int(case.pool * case.size)
    threshold = 0.0
    for backend in backends:
        if backend == "torch" or operation.missing(backend) is not None:
            continue
        run, _ = ours.prepare(backend, tensors, case.k, pool)
        found: Any = run()
        check_words(tensors, found.words, case.k, found.threshold)
        threshold = found.threshold
        yield backend, run
    for rival in (torch_topk, torch_sort, torch_kthvalue):
        slow = rival is torch_kthvalue and case.size > KTHVALUE_LIMIT
        if rival.declines(case) is None and threshold and not slow:
            run, masks = rival.prepare(tensors, case.k, pool)
            run()
            check(tensors, masks(), case.k, threshold, rival.EXACT)
            yield rival.NAME, run


def bytes_needed(case: Case) -> int:
    """What torch.sort takes, and its input."""
    return 40 * case.size


def measure(device: str, case: Case, backends: Sequence[str],
            times_us: Callable[[Callable[[], object], str], list[float]]) -> Iterator[Row]:
    """A row for each way. `WrongMask` if one is wrong."""
    tensors = make(case, device)
    floor = plain_floor(tensors)
    if device == "cuda":
        from benchmarks.threshold import gpu_floor

        floor = gpu_floor.prepare(tensors)
    least = statistics.median(times_us(floor, device))
    for way, run in ways(case, tensors, backends):
        times = times_us(run, device)
        median = statistics.median(times)
        yield Row(asdict(case), way, median, statistics.median(abs(t - median) for t in times), least, median / least)


def table(rows: Sequence[Row]) -> str:
    head = f"{'weights':>12}{'dtype':>10}  {'case':<34}{'way':<16}{'us':>12}{'MAD':>8}{'x floor':>9}"
    return "\n".join([head, *(
        f"{r.case['n']:>12,}{r.case['dtype']:>10}  {described(r.case):<34}{r.way:<16}{r.median_us:>12.1f}"
        f"{r.mad_us:>8.1f}{r.times_floor:>9.2f}" for r in rows)])


def name(case: Case) -> str:
    """
    >>> name(Case(10**6, keep=0.5))
    '1,000,000 float32, keep 0.5'
    """
    return ", ".join(filter(None, (f"{case.n:,} {case.dtype}", described(asdict(case)))))


def described(case: dict[str, Any]) -> str:
    """What a case has that the plain one has not.

    >>> described(asdict(Case(100, keep=0.5, tensors=3)))
    'tensors 3, keep 0.5'
    """
    plain = asdict(Case(1))
    return ", ".join(f"{name} {value}" for name, value in case.items()
                     if name not in ("n", "dtype") and value != plain[name])
