"""The Triton kernel in Triton's interpreter; test_triton_interpreter.py runs these in a process of their own.

Whether kernels are interpreted is settled when they are decorated, for the whole process. The name of this file keeps
pytest from collecting it elsewhere.
"""

from __future__ import annotations

import pytest
import torch

from optprune_fast.ops.masked_linear import masked_linear, triton_impl
from optprune_fast.runtime.dispatch import calls
from optprune_fast.runtime.errors import BackendError

FLOATS = (torch.float32, torch.float16)
# (P, B, O, I): every edge in every place, a few programs each, for one program takes milliseconds.
SIZES = [(0, 3, 5, 64), (2, 0, 5, 64), (2, 3, 0, 64), (2, 3, 5, 0), (1, 1, 1, 1), (2, 63, 65, 64), (1, 64, 63, 127),
         (3, 65, 64, 65), (1, 127, 10, 511), (2, 1, 127, 513), (5, 3, 2, 63), (1, 129, 3, 31)]


@pytest.mark.parametrize("dtype", FLOATS, ids=["float32", "float16"])
@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_agrees_with_float64(sample, judge, size, own, dtype):
    x, weight, words = sample(*size, own=own, dtype=dtype)
    judge(masked_linear(x, weight, words, backend="triton"), x, weight, words)


def test_dispatch_runs_the_triton_kernel(sample):
    before = calls["masked_linear", "triton"]
    masked_linear(*sample(1, 2, 3, 4))
    assert calls["masked_linear", "triton"] == before + 1


@pytest.mark.parametrize("dtype", FLOATS, ids=["float32", "float16"])
def test_64_bit_offsets_give_the_bits_of_32_bit_offsets(sample, dtype):
    x, weight, words = sample(3, 65, 65, 130, own=True, dtype=dtype)
    narrow, wide = (torch.full((3, 65, 65), float("nan"), dtype=dtype) for _ in range(2))
    triton_impl.launch(x, weight, words, narrow, wide=False)
    triton_impl.launch(x, weight, words, wide, wide=True)
    assert torch.equal(narrow, wide)


def test_rows_beyond_32_bits_are_found(sample, judge, far_apart):
    x, weight, words = sample(2, 2, 3, 65, dtype=torch.float16)
    x = far_apart(x, 2**31 + 5)
    judge(masked_linear(x, weight, words, backend="triton"), x, weight, words)


def test_a_population_beyond_one_grid_takes_several_launches(sample):
    x, weight, words = sample(5, 3, 70, 40, own=True)
    whole, parts = (torch.full((5, 3, 70), float("nan")) for _ in range(2))
    triton_impl.launch(x, weight, words, whole, wide=False)
    triton_impl.launch(x, weight, words, parts, wide=False, most_programs=7)  # 3 programs a candidate
    assert torch.equal(whole, parts)


def test_nothing_is_written_past_the_output(sample, judge):
    x, weight, words = sample(2, 33, 31, 70)
    memory = torch.full((2 * 33 * 31 + 500,), float("nan"))
    out = memory[:-500].view(2, 33, 31)
    triton_impl.launch(x, weight, words, out, wide=False)
    judge(out, x, weight, words)
    assert memory[-500:].isnan().all()


def test_transposed_and_shared_operands_are_read_where_they_lie(sample, judge):
    x, weight, words = sample(1, 20, 30, 90)
    x, weight, words = x.T.contiguous().T, weight.T.contiguous().T, words.expand(4, -1, -1)
    judge(masked_linear(x, weight, words, backend="triton"), x, weight, words)


def test_vmap_folds_into_one_call(sample):
    x, weight, words = sample(6, 4, 5, 65)
    folded = torch.vmap(lambda w: masked_linear(x, weight, w, backend="triton"))(words.unflatten(0, (2, 3)))
    assert torch.equal(folded.flatten(0, 1), masked_linear(x, weight, words, backend="triton"))


def test_bfloat16_is_declined_because_the_interpreter_is_wrong(sample):
    with pytest.raises(BackendError, match="interpreter computes bfloat16 wrongly"):
        masked_linear(*sample(1, 1, 1, 1, dtype=torch.bfloat16), backend="triton")
