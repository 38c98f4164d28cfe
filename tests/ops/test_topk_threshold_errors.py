"""topk_threshold: wrong calls are refused by texts that teach."""

from __future__ import annotations

import pytest
import torch

from optprune_fast.ops.topk_threshold import topk_threshold
from optprune_fast.runtime.errors import BackendError

W = torch.ones(2, 3)
OUT = torch.empty(2, 1, dtype=torch.int64)


@pytest.mark.parametrize(("arguments", "error", "text"), [
    (([], 0), ValueError, "tensors must hold at least one tensor"),
    (([W, "w"], 0), TypeError, r"tensors must be a tensor or a sequence of tensors\n  tensors\[1\]  'w'"),
    (({"weight": W}, 0), TypeError, r"of a dict, take list\(d.values\(\)\)"),
    (([W, W.int()], 0), TypeError, r"weights must be float32.*\n  tensors\[1\]  int32\[2, 3\] cpu\ntry w.float\(\)"),
    ((W.bool(), 0), TypeError, "weights must be float32"),
    ((W.to(torch.complex64), 0), TypeError, "weights must be float32"),
    ((W.to_sparse(), 0), ValueError, r"tensors must be dense[\s\S]*try w.to_dense\(\)"),
    ((W.to("meta"), 0), ValueError, r"a tensor on the meta device has no values to rank\n  tensors\[0\]"),
    ((W, 2.0), TypeError, r"k must be a whole number\n  k  2.0\na fraction of the weights is round\(fraction \* n\)"),
    ((W, True), TypeError, "k must be a whole number"),
    ((W, 2, "1"), TypeError, "pool must be a whole number"),
    ((W, -1), ValueError, r"k must not be negative\n  k  -1"),
    ((W, 1, -1), ValueError, "pool must not be negative"),
    ((W, 7), ValueError, r"k must be at most the 6 weights of the tensors\n  k  7"),
    ((W, 4, 3), ValueError, r"k \+ pool must be at most the 6 weights[\s\S]*a pool of 2 takes all that follow"),
    ((W, 1, 0, [OUT]), TypeError, r"out must be a pair \(words, pool_words\)"),
    ((W, 1, 0, ([OUT], [OUT])), ValueError, "pool_words if, and only if, there is a pool"),
    ((W, 1, 1, ([OUT], None)), ValueError, "pool_words if, and only if, there is a pool"),
    ((W, 1, 0, ([OUT, OUT], None)), ValueError, "words in out must hold one tensor for each of the 1"),
    ((W, 1, 0, ([OUT.int()], None)), ValueError, r"words\[0\] in out must be a contiguous int64\[2, 1\] on cpu"),
    ((W, 1, 0, ([OUT[:1]], None)), ValueError, r"words\[0\] in out must be a contiguous int64\[2, 1\]"),
    ((W, 1, 1, ([OUT], [torch.empty(2, 2, dtype=torch.int64)[:, :1]])), ValueError, r"pool_words\[0\] in out must be"),
])
def test_wrong_use_is_told_what_is_wrong(arguments: tuple[object, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=rf"^topk_threshold: (.|\n)*{text}"):
        topk_threshold(*arguments)  # type: ignore[arg-type]


def test_options_that_are_not_known_are_told_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="topk_threshold: nan must be one of raise, keep, drop\n  nan  'zero'"):
        topk_threshold(W, 1, nan="zero")
    with pytest.raises(TypeError, match="topk_threshold: hint must be a number\n  hint  True\nan earlier result"):
        topk_threshold(W, 1, hint=True)


def test_tensors_on_two_devices_are_refused() -> None:
    if not torch.cuda.is_available():
        pytest.skip("a second device: no CUDA device on this machine")
    with pytest.raises(ValueError, match=r"tensors must be on one device"):
        topk_threshold([W, W.cuda()], 1)


def test_a_refused_call_leaves_out_alone() -> None:
    out = torch.full((2, 1), -1)
    for k, options in ((7, {}), (1, {"nan": "zero"}), (1, {"hint": "0.5"})):
        with pytest.raises((TypeError, ValueError)):
            topk_threshold(W, k, 0, ([out], None), **options)  # type: ignore[arg-type]
    assert out.eq(-1).all()


@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_a_gpu_backend_refuses_weights_of_the_cpu(backend: str) -> None:
    with pytest.raises(BackendError, match=f"topk_threshold: backend='{backend}' cannot serve"):
        topk_threshold(W, 1, backend=backend)
