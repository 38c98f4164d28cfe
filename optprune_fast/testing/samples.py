"""Inputs that walk the edges, for every operation by name: zero, one, around a word, odd, strided, shared.

The first two samples of an operation are its plainest, for tests that are too slow to run them all. Samples are made
once and shared: a test must not write into them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optprune_fast.ops.choose_bits.reference import choose_bits_reference
from optprune_fast.ops.masked_conv2d.reference import masked_conv2d_reference
from optprune_fast.ops.masked_linear.reference import masked_linear_reference
from optprune_fast.ops.moved_linear.reference import moved_linear_reference
from optprune_fast.ops.rows_linear.reference import rows_linear_reference
from optprune_fast.ops.sparse_conv2d.reference import sparse_conv2d_reference
from optprune_fast.ops.sparse_linear.reference import sparse_linear_reference
from optprune_fast.ops.topk_threshold import TopK
from optprune_fast.ops.topk_threshold.reference import topk_threshold_reference
from optprune_fast.ops.words import pack, popcount, word_count
from optprune_fast.testing.moved_samples import moved_linear_samples
from optprune_fast.testing.sample import Sample, generator_of
from optprune_fast.testing.sparse_samples import rows_linear_samples, sparse_conv2d_samples, sparse_linear_samples

EDGES = (0, 1, 63, 64, 65, 127, 511, 513)
_FAR = 10_007  # words from one candidate to the next in a large population matrix: odd, prime, beyond a page


def samples(operation: str, dtype: torch.dtype = torch.float32) -> tuple[Sample, ...]:
    """The samples of one operation, with floating tensors in `dtype`.

    >>> samples("masked_linear")[0].name
    'P3-B5-O7-I65-shared'
    """
    make, _ = _TABLE[operation]
    return _made(make, dtype)


def reference(operation: str) -> Callable[..., Any]:
    """The meaning of an operation: takes what its function takes and returns what that returns, floats in float64."""
    return _TABLE[operation][1]


@functools.cache
def meaning(operation: str, sample: Sample) -> Any:
    """The reference's result for a sample, computed once: it is slow, and every implementation is judged by it."""
    return reference(operation)(*sample.arguments)


@functools.cache
def _made(make: Callable[[torch.dtype], list[Sample]], dtype: torch.dtype) -> tuple[Sample, ...]:
    return tuple(make(dtype))


def _masks(generator: torch.Generator, P: int, rows: int, columns: int, density: float = 0.4) -> Tensor:
    """Words [P, rows, ⌈columns/64⌉] as the engine has them: a slice of [P, W], with other layers on both sides."""
    width = rows * word_count(columns)
    population = torch.full((P, width + 5), -1)
    words = population[:, 2 : 2 + width].view(P, rows, word_count(columns))
    return words.copy_(pack(torch.rand(P, rows, columns, generator=generator) < density))


def _far_apart(words: Tensor) -> Tensor:
    """The same words, candidates `_FAR` words apart and not at the start of memory, all ones in between."""
    P, rows, width = words.shape
    population = torch.full((P, _FAR), -1)
    return population[:, 3 : 3 + rows * width].view(P, rows, width).copy_(words)


# ---- masked_linear


def _linear(dtype: torch.dtype, P: int = 3, B: int = 5, O: int = 7, I: int = 65, *, own: bool = False,  # noqa: E741
            density: float = 0.4) -> Sample:
    generator = generator_of(1, P, B, O, I, own)
    x = torch.randn((P, B, I) if own else (B, I), generator=generator).to(dtype)
    weight = torch.randn(O, I, generator=generator).to(dtype)
    words = _masks(generator, P, O, I, density)
    return Sample(f"P{P}-B{B}-O{O}-I{I}-{'own' if own else 'shared'}", (x, weight, words), I)


def _linear_samples(dtype: torch.dtype) -> list[Sample]:
    make = functools.partial(_linear, dtype)
    out = [make(), make(own=True)]
    out += [make(I=n) for n in EDGES if n != 65]
    out += [make(B=n, own=n % 2 == 0) for n in (0, 1, 2, 63, 64, 65, 127, 513)]
    out += [make(O=n) for n in (0, 1, 63, 64, 65)]
    out += [make(P=0), make(P=0, own=True), make(P=1), make(P=1, own=True), make(P=0, B=0, O=0, I=0)]
    out += [make(P=2, B=130, O=70, I=1100)]  # several tiles of samples, of outputs and of columns
    x, weight, words = out[0].arguments
    own = out[1].arguments[0]
    rows = torch.tensor([0, 3, 6])
    named = {
        "all-kept": (x, weight, pack(torch.ones(3, 7, 65, dtype=torch.bool))),
        "none-kept": (x, weight, torch.zeros_like(words)),
        "empty-rows": (x, weight, words.index_fill(1, rows, 0)),
        "last-column-only": (x, weight, pack(torch.arange(65).eq(64).expand(3, 7, 65))),
        "sign-bit-only": (x, weight, pack(torch.arange(65).eq(63).expand(3, 7, 65))),
        "words-far-apart": (x, weight, _far_apart(words)),
        "every-second-candidate": (own[::2], weight, words[::2]),
        "words-shared-by-candidates": (own, weight, words[:1].expand(3, 7, 2)),
        "words-transposed": (x, weight, words.transpose(1, 2).contiguous().transpose(1, 2)),
        "x-transposed": (x.T.contiguous().T, weight, words),
        "x-every-second-column": (torch.stack([x, -x], -1).flatten(1)[:, ::2], weight, words),
        "x-amid-a-batch": (torch.cat([x, x, x])[5:10], weight, words),
        "x-batch-first": (own.transpose(0, 1).contiguous().transpose(0, 1), weight, words),
        "x-expanded": (x.expand(3, 5, 65), weight, words),
        "x-one-sample-repeated": (x[:1].expand(5, 65), weight, words),
        "weight-transposed": (x, weight.T.contiguous().T, words),
        "weight-amid-rows": (x, torch.cat([weight, weight], 1)[:, :65], words),
    }
    return out + [Sample(name, arguments, 65) for name, arguments in named.items()]


# ---- masked_conv2d


def _conv(name: str, dtype: torch.dtype, P: int = 2, B: int = 3, C: int = 4, H: int = 7, W: int = 6, O: int = 4,  # noqa: E741
          kernel: tuple[int, int] = (3, 3), *, stride: tuple[int, int] = (1, 1), padding: tuple[int, int] = (0, 0),
          dilation: tuple[int, int] = (1, 1), groups: int = 1, own: bool = False, density: float = 0.4) -> Sample:
    generator = generator_of(2, P, B, C, H, W, O, *kernel, groups, own)
    x = torch.randn((P, B, C, H, W) if own else (B, C, H, W), generator=generator).to(dtype)
    weight = torch.randn(O, C // groups, *kernel, generator=generator).to(dtype)
    columns = weight.shape[1:].numel()
    words = _masks(generator, P, O, columns, density)
    # Lists, as the operator has them.
    return Sample(name, (x, weight, words, list(stride), list(padding), list(dilation), groups), columns)


def _conv_samples(dtype: torch.dtype) -> list[Sample]:
    def make(name: str, **sizes: Any) -> Sample:
        return _conv(name, dtype, **sizes)

    out = [make("shared"), make("own", own=True)]
    # C · kh · kw on both sides of a word, and of eight words
    for C, kernel in ((1, (1, 1)), (7, (3, 3)), (64, (1, 1)), (13, (1, 5)), (127, (1, 1)), (73, (7, 1)), (57, (3, 3))):
        out.append(make(f"I{C * kernel[0] * kernel[1]}", C=C, kernel=kernel, O=3))
    out += [make(f"P{n}", P=n) for n in (0, 1, 3)] + [make("P0-own", P=0, own=True)]
    out += [make(f"B{n}", B=n) for n in (0, 1, 2)] + [make(f"B{n}-own", B=n, own=True, O=2) for n in (15, 65)]
    out += [make("O0", O=0), make("O1", O=1), make("O65", O=65), make("C0", C=0), make("all-empty", P=0, B=0, C=0, O=0)]
    out += [
        make("stride", stride=(2, 1)),
        make("stride-across", stride=(1, 2)),
        make("stride-beyond-kernel", stride=(4, 5)),
        make("padding", padding=(1, 2)),
        make("padding-beyond-kernel", padding=(4, 5)),
        make("dilation", dilation=(2, 1)),
        make("dilation-across", dilation=(1, 2)),
        make("everything", stride=(2, 3), padding=(3, 1), dilation=(2, 2), groups=2, own=True),
        make("groups", groups=2),
        make("depthwise", C=6, O=6, groups=6, padding=(1, 1)),
        make("depthwise-twice", C=3, O=6, groups=3),
        make("1x1", kernel=(1, 1)),
        make("1x1-stride", kernel=(1, 1), stride=(2, 2)),
        make("5x5-one-channel", C=1, H=12, W=12, O=6, kernel=(5, 5)),
        make("kernel-is-the-plane", kernel=(7, 6)),
        make("kernel-beyond-the-plane", H=3, W=2, kernel=(5, 6), padding=(1, 2)),
        make("one-row", H=1, W=40, kernel=(1, 7)),
        make("one-column", H=40, W=1, kernel=(7, 1)),
        make("wide", B=17, C=2, H=3, W=37, padding=(1, 1)),
    ]
    x, weight, words, *geometry = out[0].arguments
    own = out[1].arguments[0]
    named = {
        "all-kept": (x, weight, pack(torch.ones(2, 4, 36, dtype=torch.bool))),
        "none-kept": (x, weight, torch.zeros_like(words)),
        "empty-rows": (x, weight, words.index_fill(1, torch.tensor([0, 2]), 0)),
        "last-column-only": (x, weight, pack(torch.arange(36).eq(35).expand(2, 4, 36))),
        "words-far-apart": (x, weight, _far_apart(words)),
        "words-shared-by-candidates": (own, weight, words[:1].expand(2, 4, 1)),
        "x-channels-last": (x.contiguous(memory_format=torch.channels_last), weight, words),
        "x-amid-a-plane": (torch.nn.functional.pad(x, (2, 1, 1, 2), value=9.0)[..., 1:-2, 2:-1], weight, words),
        "x-expanded": (x.expand(2, *x.shape), weight, words),
        "weight-channels-last": (x, weight.contiguous(memory_format=torch.channels_last), words),
    }
    return out + [Sample(name, (*arguments, *geometry), 36) for name, arguments in named.items()]


# ---- choose_bits


def _choose_bits(P: int = 3, W: int = 9, share: float = 0.5) -> Sample:
    generator = generator_of(3, P, W)
    words = torch.randint(-(2**63), 2**63 - 1, (P, W), generator=generator)
    counts = (popcount(words).sum(1) * share).long()
    return Sample(f"P{P}-W{W}-{share:.0%}", (words, counts, torch.arange(P)))


def _choose_bits_samples(dtype: torch.dtype) -> list[Sample]:
    out = [_choose_bits(), _choose_bits(P=1)]
    out += [_choose_bits(W=n) for n in (0, 1, 2, 7, 8, 65)]
    out += [_choose_bits(share=share) for share in (0.0, 0.01, 0.99, 1.0)]
    out += [_choose_bits(P=0), _choose_bits(P=0, W=0), _choose_bits(P=65, W=2)]
    words, counts, seeds = out[0].arguments
    all_bits = torch.full((3, 2), -1)
    extremes = torch.tensor([-1, -(2**63), 2**63 - 1])
    out += [
        Sample("one-of-each-row", (words, torch.ones_like(counts), seeds)),
        Sample("counts-differ", (words, torch.tensor([0, 17, 1]), seeds)),
        Sample("no-bits", (torch.zeros(3, 2, dtype=torch.int64), torch.zeros_like(counts), seeds)),
        Sample("all-bits", (all_bits, torch.tensor([64, 1, 127]), seeds)),
        Sample("sign-bits-only", (all_bits << 63, torch.tensor([0, 1, 2]), seeds)),
        Sample("seeds-at-the-ends", (words, counts, extremes)),
        Sample("seeds-equal", (words[:1].expand(3, 9), counts[:1].expand(3), seeds[:1].expand(3))),
        Sample("rows-far-apart", (torch.full((3, _FAR), -1)[:, 1:10].copy_(words), counts, seeds)),
        Sample("words-transposed", (words.T.contiguous().T, counts, seeds)),
        Sample("every-second", (words.repeat_interleave(2, 0)[::2], counts.repeat_interleave(2)[::2],
                                seeds.repeat_interleave(2)[1::2])),
    ]
    return out


# ---- topk_threshold


def _topk(name: str, tensors: list[Tensor], share: float = 0.3, pool: float = 0.1) -> Sample:
    n = sum(t.numel() for t in tensors)
    return Sample(name, (tensors, int(n * share), int(n * pool)))


def _topk_samples(dtype: torch.dtype) -> list[Sample]:
    generator = generator_of(4)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    out = [_topk("one-matrix", [normal(7, 65)]), _topk("several", [normal(3, 65), normal(5), normal(2, 3, 3, 3)])]
    out += [_topk(f"I{n}", [normal(3, n)]) for n in EDGES]
    two = torch.where(normal(5, 65) > 0, 0.5, -0.5).to(dtype)
    out += [
        _topk("ties", [two, two]),
        _topk("keep-none", [normal(3, 65)], 0.0, 0.0),
        _topk("keep-all", [normal(3, 65)], 1.0, 0.0),
        _topk("no-pool", [normal(3, 65)], 0.5, 0.0),
        _topk("all-in-the-pool", [normal(3, 65)], 0.0, 1.0),
        _topk("empty-among-others", [normal(0, 4), normal(3, 5), normal(4, 0)]),
        _topk("transposed", [normal(65, 7).T]),
        _topk("every-second-column", [normal(3, 130)[:, ::2]]),
    ]
    return out


def _topk_reference(tensors: list[Tensor], k: int, pool: int) -> TopK:
    threshold, words, pool_words = topk_threshold_reference(tensors, k, pool)
    return TopK(threshold, words, pool_words if pool else None, k)


_TABLE: dict[str, tuple[Callable[[torch.dtype], list[Sample]], Callable[..., Any]]] = {
    "choose_bits": (_choose_bits_samples, choose_bits_reference),
    "masked_conv2d": (_conv_samples, masked_conv2d_reference),
    "masked_linear": (_linear_samples, masked_linear_reference),
    "moved_linear": (moved_linear_samples, moved_linear_reference),
    "rows_linear": (rows_linear_samples, rows_linear_reference),
    "sparse_conv2d": (sparse_conv2d_samples, sparse_conv2d_reference),
    "sparse_linear": (sparse_linear_samples, sparse_linear_reference),
    "topk_threshold": (_topk_samples, _topk_reference),
}
