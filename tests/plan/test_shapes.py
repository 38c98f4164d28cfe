"""What moves numbers: reshapes, permutations, slices, concatenation."""

from __future__ import annotations

import pytest
import torch


@pytest.mark.parametrize(("function", "expected"), [
    (lambda x: x.flatten(1), [("reshape", {"shape": (24,)})]),
    (lambda x: x.view(x.shape[0], -1), [("reshape", {"shape": (24,)})]),
    (lambda x: x.reshape(x.shape[0], 2, 2, 6), [("reshape", {"shape": (2, 2, 6)})]),
    (lambda x: x.unflatten(-1, (2, 3)), [("reshape", {"shape": (4, 2, 3)})]),
    (lambda x: x.unsqueeze(2), [("reshape", {"shape": (4, 1, 6)})]),
    (lambda x: x.unsqueeze(1).squeeze(1), [("reshape", {"shape": (1, 4, 6)}), ("reshape", {"shape": (4, 6)})]),
    (lambda x: x.transpose(1, 2), [("permute", {"dims": (1, 0)})]),
    (lambda x: x.mT, [("permute", {"dims": (1, 0)})]),
    (lambda x: x.permute(0, -1, 1), [("permute", {"dims": (1, 0)})]),
    (lambda x: x.movedim(1, -1), [("permute", {"dims": (1, 0)})]),
    (lambda x: x[:, 1:4:2], [("slice", {"dim": 0, "start": 1, "length": 2, "step": 2})]),
    (lambda x: x.narrow(2, 1, 3), [("slice", {"dim": 1, "start": 1, "length": 3, "step": 1})]),
    (lambda x: x[..., -1], [("slice", {"dim": 1, "start": 5, "length": 1, "step": 1}), ("reshape", {"shape": (4,)})]),
    (lambda x: x.chunk(2, 1)[1], [("slice", {"dim": 0, "start": 2, "length": 2, "step": 1})]),
    (lambda x: x.split([1, 5], 2)[1], [("slice", {"dim": 1, "start": 1, "length": 5, "step": 1})]),
    (lambda x: x.unbind(1)[3], [("slice", {"dim": 0, "start": 3, "length": 1, "step": 1}),
                                ("reshape", {"shape": (6,)})]),
    (lambda x: x.contiguous().clone().detach().to(x.dtype), []),
    (lambda x: torch.dropout(x, 0.5, False), []),
])
def test_each_becomes_its_node(after, function, expected):
    assert after(function, 4, 6) == expected


def test_concatenation_of_values_and_constants(after):
    first = torch.randn(1, 1, 6)

    def function(x):
        return torch.cat([first.expand(x.shape[0], -1, -1), x, torch.zeros(x.shape[0], 2, 6, dtype=x.dtype)], 1)

    found = after(function, 4, 6)
    assert [op for op, _ in found] == ["constant", "constant", "concat"]
    assert found[-1][1] == {"dim": 0}


def test_stack_is_concatenation_of_reshapes(after):
    assert [op for op, _ in after(lambda x: torch.stack([x, x.relu()], -1), 6)] == [
        "activation", "reshape", "reshape", "concat"]


def test_values_that_nobody_reads_are_gone(after):
    assert [op for op, _ in after(lambda x: (x.relu(), x.exp().flip(0))[0], 6)] == ["activation"]
