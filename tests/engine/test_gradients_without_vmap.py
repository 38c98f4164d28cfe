"""Gradients of a model that vmap cannot run are those of the same model without the obstacle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import optprune_fast as opf
from optprune_fast.runtime.errors import EvaluationWarning


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


class LooksAtValues(Plain):
    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if float(out.detach().sum()) < 1e9 else -out


@pytest.mark.parametrize("objective", ["cross_entropy", "kl_to_dense"])
def test_a_model_that_looks_at_values_has_the_same_gradients(objective: str) -> None:
    torch.manual_seed(0)
    plain, looking = Plain(), LooksAtValues()
    looking.load_state_dict(plain.state_dict())
    data = (torch.randn(7, 6), torch.randint(3, (7,)))
    expected = opf.Evaluator(plain, data, objective)
    with pytest.warns(EvaluationWarning, match="one at a time"):
        evaluator = opf.Evaluator(looking, data, objective)
    mask = opf.random_masks(expected.layout, 20, [1])
    for name, (g, f) in evaluator.gradients(mask).items():
        torch.testing.assert_close(g, expected.gradients(mask)[name][0])
        torch.testing.assert_close(f, expected.gradients(mask)[name][1])


def test_such_a_model_can_be_pruned() -> None:
    torch.manual_seed(0)
    data = (torch.randn(60, 6), torch.randint(3, (60,)))
    with pytest.warns(EvaluationWarning, match="one at a time"):
        result = opf.prune(LooksAtValues(), data, sparsity=0.5, evaluations=120)
    assert result.strategy == "swap"
    assert result.fitness <= result.baseline
