"""topk_threshold: keep exactly `k` weights of one tensor or of many, the largest by magnitude."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral, Real
from typing import NamedTuple

import torch
from torch import Tensor

from optprune_fast.ops.checks import require
from optprune_fast.ops.words import matrix, word_count
from optprune_fast.runtime.dispatch import Operation
from optprune_fast.runtime.errors import message

# run(tensors, k, pool, words, pool_words, hint, nan) -> (threshold, first): fills the words; `first` is the first
# tensor that holds NaN where `nan` is "raise", else -1. `hint` is a magnitude or None.
operation = Operation("topk_threshold", __name__, ("cuda", "triton", "native", "numba", "torch"))

_WHERE = "topk_threshold"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
NAN = ("raise", "keep", "drop")


class TopK(NamedTuple):
    """What `topk_threshold` found.

    threshold:   the smallest magnitude kept; `inf` where nothing is kept, NaN where the last one kept is NaN
    words:       one int64 [O, ⌈I/64⌉] per tensor, the weights kept
    pool_words:  the same for the weights that follow, or None without a pool
    count:       weights kept, `k`
    """

    threshold: float
    words: list[Tensor]
    pool_words: list[Tensor] | None
    count: int  # type: ignore[assignment]  # the name of a method of tuple, too


Out = tuple[Sequence[Tensor], Sequence[Tensor] | None]
Shape = tuple[int, int]


def topk_threshold(tensors: Tensor | Iterable[Tensor], k: int, pool: int = 0, out: Out | None = None, *,
                   hint: float | None = None, nan: str = "raise", backend: str = "auto") -> TopK:
    """Keep exactly the `k` largest weights by magnitude, over all tensors together.

    tensors:  one tensor or several, each [O, ...] of float32, float16, bfloat16 or float64 (a one-dimensional one is
              one row), all on one device; dtypes may differ and are compared exactly. One that is not contiguous is
              copied
    k:        weights to keep
    pool:     how many of the weights that follow rank `k` to mark in `pool_words`
    out:      `(words, pool_words)`: contiguous tensors of the shapes of the result, to be overwritten and returned;
              `pool_words` is None without a pool. A call that finds NaN has overwritten them, too
    hint:     where the threshold is expected, say that of an earlier call with nearly the same weights. Near it the
              search may be shorter; a wrong one costs time, and no hint changes a bit. NaN says nothing
    nan:      "raise" refuses NaN; "keep" ranks it above infinity, "drop" below zero, ties by position as all others
    returns:  `TopK(threshold, words, pool_words, count)`, rows packed with a zero tail (docs/FORMATS.md)

    Equal magnitudes rank by (tensor, position in the tensor), lowest first; positions are logical, whatever the
    strides. `-0` equals `+0`, denormals count as what they are, infinities rank on top. With `nan="drop"` NaN is kept
    only where `k` is more than all other weights.

    Raises `TypeError` for wrong types, `ValueError` for NaN, a `k` or `k + pool` that the tensors do not have, tensors
    without values or on several devices, an `out` that does not fit, and a policy that is not known.

    >>> t = topk_threshold(torch.tensor([[0.5, -3.0, 1.0], [2.0, 1.0, 0.0]]), 3)
    >>> t.threshold, t.words[0].tolist()
    (1.0, [[6], [1]])
    >>> topk_threshold(torch.tensor([0.5, torch.nan, 1.0]), 1, nan="keep").words[0].tolist()
    [[2]]
    """
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    check_tensors(given)
    shapes = [matrix(t.shape) for t in given]
    n = sum(rows * columns for rows, columns in shapes)
    k, pool = _whole("k", k), _whole("pool", pool)
    require(k <= n, _WHERE, f"k must be at most the {n} weights of the tensors", k=k)
    require(k + pool <= n, _WHERE, f"k + pool must be at most the {n} weights of the tensors",
            f"a pool of {n - k} takes all that follow", k=k, pool=pool)
    if hint is not None and (isinstance(hint, bool) or not isinstance(hint, Real)):
        raise TypeError(message(_WHERE, "hint must be a number", "an earlier result t gives hint=t.threshold",
                                hint=hint))
    require(nan in NAN, _WHERE, f"nan must be one of {', '.join(NAN)}", nan=nan)
    wanted, device = [(rows, word_count(columns)) for rows, columns in shapes], given[0].device
    words, pool_words = _empty(wanted, device, pool) if out is None else _checked(out, wanted, device, pool)
    start = None if hint is None or math.isnan(hint) else abs(float(hint))
    detached = [t.detach() if t.requires_grad else t for t in given]
    threshold, first = operation(detached, k, pool, words, pool_words, start, nan, backend=backend)
    require(first < 0, _WHERE, f"tensors[{first}] holds NaN, which has no rank",
            'nan="keep" ranks it above infinity, nan="drop" below zero; better, find out where it comes from')
    return TopK(threshold, words, pool_words, k)


def check_tensors(tensors: list[Tensor]) -> None:
    """The rules of `tensors=` that need no values."""
    require(len(tensors) > 0, _WHERE, "tensors must hold at least one tensor")
    device = getattr(tensors[0], "device", None)
    for i, t in enumerate(tensors):  # thousands of small ones: the good case must be quick
        if not (isinstance(t, Tensor) and t.dtype in _DTYPES and t.layout == torch.strided and t.device == device
                and not t.is_meta):
            _refuse(i, t, tensors[0])


def _refuse(i: int, t: Tensor, first: Tensor) -> None:
    """Say what is wrong with tensors[i]."""
    seen = {f"tensors[{i}]": t}
    if not isinstance(t, Tensor):
        raise TypeError(message(_WHERE, "tensors must be a tensor or a sequence of tensors",
                                "of a dict, take list(d.values())", **seen))
    if t.dtype not in _DTYPES:
        raise TypeError(message(_WHERE, "weights must be float32, float16, bfloat16 or float64", "try w.float()",
                                **seen))
    require(t.layout == torch.strided, _WHERE, "tensors must be dense", "try w.to_dense()", layout=t.layout, **seen)
    require(not t.is_meta, _WHERE, "a tensor on the meta device has no values to rank", "load the weights first",
            **seen)
    require(t.device == first.device, _WHERE, "tensors must be on one device", "move them with .to(device)",
            **{"tensors[0]": first, **seen})


def _whole(name: str, value: object) -> int:
    # To look an abstract class up takes longer than all other checks of a number; most are plain ones.
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, Integral)):
        way_out = "a fraction of the weights is round(fraction * n)" if isinstance(value, float) else ""
        raise TypeError(message(_WHERE, f"{name} must be a whole number", way_out, **{name: value}))
    whole = int(value)
    require(whole >= 0, _WHERE, f"{name} must not be negative", "", **{name: whole})
    return whole


def _empty(shapes: list[Shape], device: torch.device, pool: int) -> tuple[list[Tensor], list[Tensor] | None]:
    def make() -> Iterator[Tensor]:
        made: dict[Shape, Tensor] = {}
        for shape in shapes:  # of thousands of small ones, one like another takes half the time of one of a shape
            if shape in made:
                yield torch.empty_like(made[shape])
            else:
                made[shape] = torch.empty(shape, dtype=torch.int64, device=device)
                yield made[shape]

    return list(make()), list(make()) if pool else None


def _checked(out: Out, shapes: list[Shape], device: torch.device,
             pool: int) -> tuple[list[Tensor], list[Tensor] | None]:
    if not isinstance(out, tuple) or len(out) != 2:
        raise TypeError(message(_WHERE, "out must be a pair (words, pool_words)",
                                "an earlier result t gives out=(t.words, t.pool_words)", out=out))
    require((out[1] is not None) == (pool > 0), _WHERE, "out must hold pool_words if, and only if, there is a pool",
            pool=pool)
    for name, tensors in zip(("words", "pool_words"), out, strict=True):
        if tensors is None:
            continue
        require(len(tensors) == len(shapes), _WHERE,
                f"{name} in out must hold one tensor for each of the {len(shapes)}", "", **{name: len(tensors)})
        for i, (t, shape) in enumerate(zip(tensors, shapes, strict=True)):
            if not (t.dtype == torch.int64 and t.device == device and t.is_contiguous() and t.shape == shape):
                rule = f"{name}[{i}] in out must be a contiguous int64{list(shape)} on {device}"
                raise ValueError(message(_WHERE, rule, "", **{f"{name}[{i}]": t}))
    return list(out[0]), None if out[1] is None else list(out[1])
