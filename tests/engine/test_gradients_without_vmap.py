"""Gradients of a model that vmap cannot run are those of the same model without the obstacle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import optprune_fast as opf
from optprune_fast.engine.gradients_proof import proof_of
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


class CopiesOut(Plain):
    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if max(out.detach().flatten().tolist()) < 1e9 else -out


class Twice(torch.autograd.Function):
    """A function of the old form, which `vmap` refuses."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> Tensor:
        return 2 * d


class OwnFunction(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return Twice.apply(super().forward(x)) / 2


@pytest.mark.parametrize("objective", ["cross_entropy", "kl_to_dense"])
@pytest.mark.parametrize(("model", "layer_by_layer"), [(LooksAtValues, False), (CopiesOut, False),
                                                       (OwnFunction, True)])
def test_a_model_that_vmap_cannot_run_has_the_same_gradients(model: type[Plain], layer_by_layer: bool,
                                                             objective: str) -> None:
    torch.manual_seed(0)
    plain, obstacle = Plain(), model()
    obstacle.load_state_dict(plain.state_dict())
    data = (torch.randn(7, 6), torch.randint(3, (7,)))
    expected = opf.Evaluator(plain, data, objective)
    with pytest.warns(EvaluationWarning, match="one at a time"):
        evaluator = opf.Evaluator(obstacle, data, objective)
    mask = opf.random_masks(expected.layout, 20, [1])
    for name, (g, f) in evaluator.gradients(mask).items():
        torch.testing.assert_close(g, expected.gradients(mask)[name][0])
        torch.testing.assert_close(f, expected.gradients(mask)[name][1])
    proof = proof_of(evaluator._forward, evaluator.objective, next(iter(evaluator.batches)), evaluator.memory)
    assert proof.holds == layer_by_layer


def test_such_a_model_can_be_pruned() -> None:
    torch.manual_seed(0)
    data = (torch.randn(60, 6), torch.randint(3, (60,)))
    with pytest.warns(EvaluationWarning, match="one at a time"):
        result = opf.prune(LooksAtValues(), data, sparsity=0.5, evaluations=120)
    assert result.strategy == "auto"
    assert result.fitness <= result.baseline
