"""Calls that must be refused, for every operation by name, with the error and the text that refuse them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from optprune_fast.testing.samples import samples


@dataclass(frozen=True)
class ErrorInput:
    """Arguments of an operation's public function that are wrong in one way.

    text: a regular expression that the message must match, over several lines
    """

    name: str
    arguments: tuple[Any, ...]
    error: type[Exception]
    text: str
    options: dict[str, Any] = field(default_factory=dict)


def error_inputs(operation: str) -> list[ErrorInput]:
    """The wrong calls of one operation.

    >>> error_inputs("masked_linear")[0].name
    'words-int32'
    """
    return [*_TABLE[operation](*samples(operation)[0].arguments), _unknown_backend(operation)]


def _unknown_backend(operation: str) -> ErrorInput:
    return ErrorInput("backend-unknown", samples(operation)[0].arguments, ValueError,
                      "backend must be one of auto, cuda, .*torch, not 'gpu'", {"backend": "gpu"})


def _masked(x: Any, weight: Any, words: Any, rest: tuple[Any, ...]) -> list[ErrorInput]:
    """What the operations with `(x, weight, words, …)` refuse alike."""
    def wrong(name: str, x: Any, weight: Any, words: Any, error: type[Exception], text: str) -> ErrorInput:
        return ErrorInput(name, (x, weight, words, *rest), error, text)

    elsewhere = words.to("meta")
    return [
        wrong("words-int32", x, weight, words.int(), TypeError,
              r"words must be int64 bit patterns[\s\S]*words  int32\[[\s\S]*PackedMasks.words"),
        wrong("x-float64", x.double(), weight, words, TypeError,
              r"x and weight must have one floating dtype[\s\S]*x  float64\[[\s\S]*try x.to\(weight.dtype\)"),
        wrong("x-integer", x.long(), weight.long(), words, TypeError, "x and weight must have one floating dtype"),
        wrong("words-on-another-device", x, weight, elsewhere, ValueError,
              r"must be on one device[\s\S]*words  int64\[.*\] meta[\s\S]*move them with .to\(device\)"),
        wrong("words-too-wide", x, weight, torch.cat([words, words], 2), ValueError,
              r"words must be \[P, \d+, \d+\] for this weight"),
        wrong("words-of-fewer-rows", x, weight, words[:, 1:], ValueError,
              r"words must be \[P, \d+, \d+\] for this weight"),
        wrong("words-flat", x, weight, words.flatten(1), ValueError, r"words must be \[P, \d+, \d+\] for this weight"),
        wrong("x-of-other-candidates", x.expand(words.shape[0] + 1, *x.shape), weight, words, ValueError,
              "x and words must have the same number of candidates"),
    ]


def _masked_linear(x: Any, weight: Any, words: Any) -> list[ErrorInput]:
    text = r"masked_linear: x must be \[B, 65\] or \[P, B, 65\] for this weight"
    return [
        *_masked(x, weight, words, ()),
        ErrorInput("weight-of-3-dims", (x, weight[None], words), ValueError, r"weight must be \[O, I\]"),
        ErrorInput("x-of-other-columns", (x[:, 1:], weight, words), ValueError, text),
        ErrorInput("x-of-1-dim", (x[0], weight, words), ValueError, text),
        ErrorInput("x-of-4-dims", (x[None, None], weight, words), ValueError, text),
    ]


def _masked_conv2d(x: Any, weight: Any, words: Any, stride: Any, padding: Any, dilation: Any,
                   groups: Any) -> list[ErrorInput]:
    def wrong(name: str, text: str, x: Any = x, weight: Any = weight, words: Any = words, stride: Any = stride,
              padding: Any = padding, dilation: Any = dilation, groups: Any = groups) -> ErrorInput:
        return ErrorInput(name, (x, weight, words, stride, padding, dilation, groups), ValueError, text)

    return [
        *_masked(x, weight, words, (stride, padding, dilation, groups)),
        wrong("weight-of-2-dims", r"weight must be \[O, C/groups, kh, kw\]", weight=weight.flatten(1)),
        wrong("weight-without-taps", "kh and kw must be at least 1", weight=weight[..., :0], words=words[..., :0]),
        wrong("x-of-other-channels", r"x must be \[B, 4, H, W\] or \[P, B, 4, H, W\]", x=x[:, 1:]),
        wrong("x-of-3-dims", r"x must be \[B, 4, H, W\]", x=x[0]),
        wrong("stride-0", r"stride must be two whole numbers of at least 1\n  stride  \[0, 1\]", stride=[0, 1]),
        wrong("stride-single", "stride must be two whole numbers", stride=[1]),
        wrong("padding-negative", "padding must be two whole numbers of at least 0", padding=[0, -1]),
        wrong("dilation-0", "dilation must be two whole numbers of at least 1", dilation=[1, 0]),
        wrong("groups-0", r"groups must divide the outputs O of the weight\n  groups  0", groups=0),
        wrong("groups-do-not-divide", "groups must divide the outputs O of the weight", groups=3),
        wrong("kernel-does-not-fit", "the kernel must fit into the padded input", x=x[:, :, :2]),
    ]


def _moved_linear(*given: Any) -> list[ErrorInput]:
    names = ("sums", "columns", "units", "unit_starts", "changes", "rows", "row_starts", "factors", "inputs")
    right = dict(zip(names, given, strict=True))

    def wrong(name: str, text: str, error: type[Exception] = ValueError, **changed: Any) -> ErrorInput:
        return ErrorInput(name, tuple({**right, **changed}.values()), error, text)

    return [
        wrong("factors-float64", r"must have one floating dtype[\s\S]*factors  float64", TypeError,
              factors=right["factors"].double()),
        wrong("units-int32", r"units, rows and their starts must be int64[\s\S]*units  int32", TypeError,
              units=right["units"].int()),
        wrong("rows-on-another-device", r"must be on one device[\s\S]*rows  int64\[.*\] meta",
              rows=right["rows"].to("meta")),
        wrong("columns-of-other-outputs", r"sums must be \[B, O\] and columns \[I, O\]",
              columns=right["columns"][:, 1:]),
        wrong("a-change-less", r"units must be \[U\] and changes \[U, B\]", changes=right["changes"][1:]),
        wrong("a-factor-less", r"rows and factors must be \[V\] and inputs \[V, B\]", factors=right["factors"][1:]),
        wrong("inputs-of-other-samples", r"and inputs \[V, B\]", inputs=right["inputs"][:, 1:]),
        wrong("a-start-less", r"unit_starts and row_starts must be \[M \+ 1\]", row_starts=right["row_starts"][1:]),
        wrong("no-starts", r"must be \[M \+ 1\]", unit_starts=right["unit_starts"][:0],
              row_starts=right["row_starts"][:0]),
    ]


def _choose_bits(words: Any, counts: Any, seeds: Any) -> list[ErrorInput]:
    def wrong(name: str, text: str, words: Any = words, counts: Any = counts, seeds: Any = seeds,
              error: type[Exception] = ValueError) -> ErrorInput:
        return ErrorInput(name, (words, counts, seeds), error, text)

    return [
        wrong("words-int32", r"must be int64\n  words  int32\[3, 9\] cpu", words=words.int(), error=TypeError),
        wrong("counts-float", "words, counts and seeds must be int64", counts=counts.double(), error=TypeError),
        wrong("seeds-of-other-rows", r"words must be \[P, W\], counts and seeds \[P\]", seeds=seeds[1:]),
        wrong("words-of-1-dim", r"words must be \[P, W\]", words=words[0]),
        wrong("seeds-on-another-device", "must be on one device", seeds=seeds.to("meta")),
        wrong("counts-negative", r"counts must lie between 0 and the bits set in the row\n  counts  \[-1",
              counts=counts - counts - 1),
        wrong("counts-beyond-the-bits", r"counts must lie between[\s\S]*available  \[", counts=counts + 577),
    ]


def _topk_threshold(tensors: Any, k: int, pool: int) -> list[ErrorInput]:
    n = sum(t.numel() for t in tensors)
    return [
        ErrorInput("no-tensors", ([], 0), ValueError, "tensors must hold at least one tensor"),
        ErrorInput("integers", ([tensors[0].int()], 0), TypeError, r"weights must be float32[\s\S]*try w.float\(\)"),
        ErrorInput("nan", ([tensors[0] * torch.nan], k), ValueError, r"tensors\[0\] holds NaN"),
        ErrorInput("k-beyond-the-weights", (tensors, n + 1), ValueError, f"k must be at most the {n} weights"),
        ErrorInput("pool-beyond-the-weights", (tensors, k, n), ValueError, r"k \+ pool must be at most"),
        ErrorInput("k-negative", (tensors, -1), ValueError, "k must not be negative"),
        ErrorInput("k-a-fraction", (tensors, 0.5), TypeError, "k must be a whole number"),
    ]


def _sparse(x: Any, shape: Any, planes: tuple[Any, ...], bias: Any, rest: tuple[Any, ...]) -> list[ErrorInput]:
    """What the operations on slices refuse alike."""
    names = ("x", "values", "places", "counts", "rows", "starts", "bias")

    def wrong(name: str, text: str, error: type[Exception] = ValueError, **changed: Any) -> ErrorInput:
        given = {**dict(zip(names, (x, *planes, bias), strict=True)), **changed}
        return ErrorInput(name, (given["x"], changed.get("shape", shape), *(given[n] for n in names[1:]), *rest), error,
                          text)

    values, places, counts, rows, starts = planes
    return [
        wrong("x-float64", r"x, values and bias must have one floating dtype[\s\S]*try x.to\(values.dtype\)", TypeError,
              x=x.double()),
        wrong("bias-float64", "x, values and bias must have one floating dtype", TypeError, bias=bias.double()),
        wrong("places-int32", "places must be uint8 or int64, counts int16, rows uint8 and starts int64", TypeError,
              places=places.int()),
        wrong("starts-int32", "places must be uint8 or int64", TypeError, starts=starts.int()),
        wrong("rows-on-another-device", r"must be on one device[\s\S]*rows  uint8\[.*\] meta", rows=rows.to("meta")),
        wrong("a-value-less", r"places must be \[\d+\] for a weight", values=values[1:]),
        wrong("a-row-less", r"rows must be \[\d+\] for a weight \[\d+, \d+\]", rows=rows[1:]),
        wrong("a-count-less", r"counts must be \[\d+\] for a weight", counts=counts[1:]),
        wrong("a-chunk-less", r"starts must be \[\d+\] for a weight[\s\S]*to_slices makes them", starts=starts[1:]),
        wrong("bias-of-other-rows", r"bias must be \[\d+\]", bias=bias[1:]),
        wrong("shape-of-one", r"shape must be \[O, ", shape=shape[:1]),
    ]


def _sparse_linear(x: Any, shape: Any, *rest: Any) -> list[ErrorInput]:
    planes, bias = rest[:5], rest[5]
    return [*_sparse(x, shape, planes, bias, ()),
            ErrorInput("x-of-other-columns", (x[:, 1:], shape, *rest), ValueError, r"x must be \[\.\.\., 300\]"),
            ErrorInput("x-a-number", (x[0, 0], shape, *rest), ValueError, r"x must be \[\.\.\., 300\]")]


def _rows_linear(x: Any, shape: Any, *rest: Any) -> list[ErrorInput]:
    names = ("values", "places", "counts", "starts", "bias")

    def wrong(name: str, text: str, error: type[Exception] = ValueError, **changed: Any) -> ErrorInput:
        given = {"x": x, "shape": shape, **dict(zip(names, rest, strict=True)), **changed}
        return ErrorInput(name, (given["x"], given["shape"], *(given[n] for n in names)), error, text)

    values, places, counts, starts, bias = rest
    return [
        wrong("x-float64", r"x, values and bias must have one floating dtype[\s\S]*try x.to\(values.dtype\)", TypeError,
              x=x.double()),
        wrong("bias-float64", "x, values and bias must have one floating dtype", TypeError, bias=bias.double()),
        wrong("places-int32", "places must be uint8 or int64, counts int16 and starts int32 or int64", TypeError,
              places=places.int()),
        wrong("counts-int32", "places must be uint8 or int64, counts int16", TypeError, counts=counts.int()),
        wrong("starts-on-another-device", r"must be on one device[\s\S]*starts  int32\[.*\] meta",
              starts=starts.to("meta")),
        wrong("a-value-less", r"places must be \[\d+\] for a weight \[11, 300\]", values=values[1:]),
        wrong("words-too-few", r"places must be \[11, 5\] for a weight", places=places.new_zeros(11, 4).long()),
        wrong("a-count-less", r"counts must be \[22\] for a weight", counts=counts[1:]),
        wrong("a-row-less", r"starts must be \[12\] for a weight", starts=starts[1:]),
        wrong("bias-of-other-rows", r"bias must be \[11\]", bias=bias[1:]),
        wrong("shape-of-one", r"shape must be \[O, I\]", shape=shape[:1]),
        wrong("x-of-other-columns", r"x must be \[\.\.\., 300\]", x=x[:, 1:]),
        wrong("x-a-number", r"x must be \[\.\.\., 300\]", x=x[0, 0]),
    ]


def _sparse_conv2d(x: Any, shape: Any, *rest: Any) -> list[ErrorInput]:
    planes, bias, (stride, padding, dilation, groups) = rest[:5], rest[5], rest[6:]

    def wrong(name: str, text: str, x: Any = x, stride: Any = stride, padding: Any = padding, dilation: Any = dilation,
              groups: Any = groups) -> ErrorInput:
        return ErrorInput(name, (x, shape, *planes, bias, stride, padding, dilation, groups), ValueError, text)

    return [*_sparse(x, shape, planes, bias, (stride, padding, dilation, groups)),
            wrong("x-of-other-channels", r"x must be \[B, 4, H, W\] for this weight", x=x[:, 1:]),
            wrong("x-of-3-dims", r"x must be \[B, 4, H, W\]", x=x[0]),
            wrong("stride-0", "stride must be two whole numbers of at least 1", stride=[0, 1]),
            wrong("padding-negative", "padding must be two whole numbers of at least 0", padding=[0, -1]),
            wrong("dilation-single", "dilation must be two whole numbers of at least 1", dilation=[1]),
            wrong("groups-do-not-divide", "groups must divide the outputs O of the weight", groups=3),
            wrong("kernel-does-not-fit", "the kernel must fit into the padded input", x=x[:, :, :2])]


_TABLE: dict[str, Callable[..., list[ErrorInput]]] = {
    "choose_bits": _choose_bits,
    "masked_conv2d": _masked_conv2d,
    "masked_linear": _masked_linear,
    "moved_linear": _moved_linear,
    "rows_linear": _rows_linear,
    "sparse_conv2d": _sparse_conv2d,
    "sparse_linear": _sparse_linear,
    "topk_threshold": _topk_threshold,
}
