"""The coefficients of this machine for `optprune_fast/engine/shipped.py`: from where on do candidates go to torch?

    OPTPRUNE_THREADS=1 python -m benchmarks.masked_forward.break_even [--rounds 7]

A quiet machine is needed. Everything is measured on one thread.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from time import perf_counter

import torch
import torch.nn.functional as F

from optprune_fast.engine.cost_probe import measure
from optprune_fast.ops.words import pack, unpack
from optprune_fast.runtime import native
from optprune_fast.runtime.threads import one_thread


def nanoseconds(work: Callable[[], object], count: float, repeats: int = 5) -> float:
    """Of one of `count` things that `work` does, in the fastest call."""
    best = float("inf")
    for _ in range(repeats):
        began = perf_counter()
        work()
        best = min(best, perf_counter() - began)
    return 1e9 * best / count


def of_torch() -> dict[str, float]:
    rows, width, heads = 1024, 384, 32
    x, weight = torch.randn(rows, width), torch.randn(width, width)
    words = pack(torch.rand(width, width) < 0.5)
    pictures, kernel = torch.randn(16, 64, 16, 16), torch.randn(64, 64, 3, 3)
    a = torch.randn(64 * 12, heads, heads)
    return {
        "torch linear": nanoseconds(lambda: F.linear(x, weight), rows * width * width),
        "torch conv2d": nanoseconds(lambda: F.conv2d(pictures, kernel, padding=1), pictures.numel() * 64 * 9),
        "torch matmul": nanoseconds(lambda: a @ a, a.numel() * heads),
        "torch element": nanoseconds(lambda: F.gelu(x), x.numel()),
        "torch call": nanoseconds(lambda: F.linear(x[:1, :1], weight[:1, :1]), 1, 100),
        "torch weight": nanoseconds(lambda: weight * unpack(words, width), weight.numel()),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    with one_thread(), torch.inference_mode():
        rounds = [{**measure().nanoseconds, **of_torch()} for _ in range(options.rounds)]
    print(f'"{native.isa()}": Coefficients({{')
    for what in rounds[0]:
        print(f'    "{what}": {statistics.median(found[what] for found in rounds):.4g},')
    print("}),")


if __name__ == "__main__":
    main()
