"""What is measured: float32 against n for every way, and what else a call may be asked for, for ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.threshold.task import Case

SIZES = (10**4, 10**5, 10**6, 10**7, 10**8)
LARGE = (10**7, 10**8)
SMALL = (10**4, 10**5)
BY_SIZE = "float32"
EVERY = ("native", "numba", "np.partition", "torch.kthvalue", "torch.topk", "torch.sort")
OURS = ("native", "numba")
# What is done once for a tensor counts here, not what is done for a weight.
LISTS = {"200 small tensors": Case(20_000, columns=10, tensors=200),
         "4,000 tiny tensors": Case(120_000, columns=3, tensors=4000)}


def variants(n: int) -> dict[str, Case]:
    """By name; the first is what the others are compared with."""
    return {
        "one tensor": Case(n),
        "half is kept": Case(n, keep=0.5),
        "bfloat16": Case(n, dtype="bfloat16"),
        "float16": Case(n, dtype="float16"),
        "rows of 1,000": Case(n, columns=1000),
        "rows of 27": Case(n, columns=27),
        "rows of 9": Case(n, columns=9),
        "200 tensors": Case(n, tensors=200),
        "a pool of 10 %": Case(n, pool=0.1),
        "half are zero, 75 % kept": Case(n, values="half pruned", keep=0.75),
        "half are zero, the others kept": Case(n, values="half pruned", keep=0.5),
    }


def cases(sizes: Sequence[int], large: Sequence[int]) -> Iterator[tuple[str, Case, Sequence[str]]]:
    """(name, case, ways)"""
    for n in sizes:
        yield BY_SIZE, Case(n), EVERY
    for name, case in LISTS.items():
        yield name, case, OURS
    for n in large:
        for name, case in variants(n).items():
            yield name, case, OURS if name in ("one tensor", "bfloat16") else OURS[:1]
