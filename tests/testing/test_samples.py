"""Samples have distinct names, stay as they are, and reach the edges they promise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optprune_fast.ops.words import tail_mask
from optprune_fast.testing.error_inputs import error_inputs
from optprune_fast.testing.samples import EDGES, meaning, samples
from optprune_fast.testing.subjects import Subject, subjects
from optprune_fast.testing.variants import cases, leaves

SUBJECTS = [pytest.param(s, id=s.name) for s in subjects()]
MASKED = [pytest.param(s, id=s.name) for s in subjects() if s.masked]


def test_all_operations_are_found() -> None:
    assert {"choose_bits", "masked_conv2d", "masked_linear", "topk_threshold"} <= {s.name for s in subjects()}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_names_are_distinct(subject: Subject) -> None:
    for names in ([s.name for s in samples(subject.name)], [e.name for e in error_inputs(subject.name)],
                  [name for name, _, _ in cases(subject)]):
        assert len(set(names)) == len(names) > 5


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_sample_is_made_once(subject: Subject) -> None:
    assert samples(subject.name) is samples(subject.name)
    first = samples(subject.name)[0]
    assert meaning(subject.name, first) is meaning(subject.name, first)


@pytest.mark.parametrize("subject", MASKED)
def test_rows_of_bits_reach_every_edge_and_their_tails_are_zero(subject: Subject) -> None:
    columns = set()
    for sample in samples(subject.name):
        weight, words = sample.arguments[1:3]
        columns.add(weight.shape[1:].numel())
        if words.numel():
            assert not (words[..., -1] & ~tail_mask(weight.shape[1:].numel())).any(), sample.name
    assert set(EDGES) <= columns


@pytest.mark.parametrize("subject", MASKED)
def test_candidates_and_batches_reach_zero_one_and_odd(subject: Subject) -> None:
    arguments = [sample.arguments for sample in samples(subject.name)]
    assert {0, 1, 3} <= {words.shape[0] for _, _, words, *_ in arguments}
    # The batch stands before what one sample has: [I] of a weight [O, I], [C, H, W] of a weight [O, C/groups, kh, kw].
    assert {0, 1, 2, 65} <= {x.shape[-weight.dim()] for x, weight, *_ in arguments}
    assert {0, 1} <= {x.dim() - weight.dim() for x, weight, *_ in arguments}, "shared inputs, and one for each"


@pytest.mark.parametrize("subject", SUBJECTS)
def test_some_sample_is_not_contiguous(subject: Subject) -> None:
    tensors = [t for s in samples(subject.name) for t in leaves(s.arguments) if isinstance(t, Tensor)]
    assert any(not t.is_contiguous() for t in tensors)


def test_floats_have_the_dtype_asked_for() -> None:
    for dtype in (torch.float32, torch.float64, torch.float16):
        x, weight, words = samples("masked_linear", dtype)[0].arguments
        assert (x.dtype, weight.dtype, words.dtype) == (dtype, dtype, torch.int64)
