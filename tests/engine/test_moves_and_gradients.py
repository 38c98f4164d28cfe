"""Moves are evaluations of neighbours; gradients are those of autograd at the effective weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.operators import swap
from optprune_fast.testing.tolerance import assert_as_accurate

MOVES = torch.tensor([[0, 69, 70], [5, -1, -1], [-1, -1, -1], [2400, 1, 63]])


def test_moves_are_evaluations_of_the_neighbours(mlp, backend: str):
    evaluator = Evaluator(mlp.model, mlp.data, backend=backend)
    parent = mlp.masks(1)
    before = parent.words.clone()
    fitness = evaluator.moves(parent, MOVES)
    assert torch.equal(fitness, evaluator(swap(parent, MOVES)))
    assert torch.equal(fitness[2:3], evaluator(parent))  # a move of fills only moves nothing
    assert torch.equal(parent.words, before)
    assert evaluator.moves(parent, MOVES[:0]).shape == (0,)


def test_accept_makes_the_move(mlp):
    evaluator = Evaluator(mlp.model, mlp.data, backend="torch")
    parent = mlp.masks(1)
    child = evaluator.accept(parent, MOVES[0])
    assert child == swap(parent, MOVES[:1])
    assert parent == mlp.masks(1)
    assert torch.allclose(evaluator(child), evaluator.moves(parent, MOVES)[:1])


def loss_of(case, weights: dict[str, Tensor], samples: slice, dtype: torch.dtype) -> Tensor:
    state = {k: v.detach().to(dtype) for k, v in case.model.state_dict().items() if v.is_floating_point()}
    out = functional_call(case.model, {**state, **weights}, (case.inputs[samples].to(dtype),))
    return F.cross_entropy(out, case.targets[samples])


def by_autograd(case, mask, dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    """{name: (g, F)}: autograd of the mean, and squares of one backward pass a sample."""
    state = case.model.state_dict()
    weights = {name: (state[name].to(dtype) * bits[0]).requires_grad_() for name, bits in mask.to_dense().items()}
    mean = torch.autograd.grad(loss_of(case, weights, slice(None), dtype), list(weights.values()))
    squares = [torch.zeros_like(g) for g in mean]
    for i in range(len(case.targets)):
        each = torch.autograd.grad(loss_of(case, weights, slice(i, i + 1), dtype), list(weights.values()))
        squares = [total + g.square() / len(case.targets) for total, g in zip(squares, each, strict=True)]
    return {name: (g, f) for name, g, f in zip(weights, mean, squares, strict=True)}


def test_gradients_are_those_of_autograd_dropped_weights_included(case):
    mask = case.masks(1)
    ours = Evaluator(case.model, case.data, backend="torch").gradients(mask)
    same, exact = by_autograd(case, mask, torch.float32), by_autograd(case, mask, torch.float64)
    assert list(ours) == list(mask.to_dense())
    # A layer's gradient is made of what comes through the others, so the largest of the network sets the scale.
    scale = [max(float(pair[i].abs().max()) for pair in exact.values()) for i in range(2)]
    for layer, pair in ours.items():
        for mine, theirs, true, magnitude in zip(pair, same[layer], exact[layer], scale, strict=True):
            assert_as_accurate(mine, theirs, true, terms=500, magnitude=magnitude)
    assert any(bool((g[~mask.to_dense()[layer][0]] != 0).any()) for layer, (g, _) in ours.items())


def test_gradients_do_not_depend_on_the_chunk(mlp):
    mask = mlp.masks(1)
    large = Evaluator(mlp.model, mlp.data, backend="torch").gradients(mask)
    small = Evaluator(mlp.model, mlp.data, backend="torch", memory=1).gradients(mask)
    for name in large:
        for a, b in zip(large[name], small[name], strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("objective", ["kl_to_dense", "mse_to_dense"])
def test_gradients_follow_the_objective(mlp, objective: str):
    """Along a direction, the gradient is what the fitness changes by."""
    model = mlp.model.double()
    data = (mlp.inputs.double(), mlp.targets)
    evaluator = Evaluator(model, data, objective, backend="torch")
    mask = mlp.masks(1)
    g = evaluator.gradients(mask)["layers.1.weight"][0]
    kept = mask.to_dense()["layers.1.weight"][0]
    step = 1e-5
    dense = [evaluator._forward.dense(batch).clone() for batch in evaluator.batches]
    evaluator._forward.dense = lambda batch: dense[0]  # the target stays the unpruned network
    evaluator._forward.state["layers.1.weight"][kept] += step
    up = float(evaluator(mask))
    evaluator._forward.state["layers.1.weight"][kept] -= 2 * step
    assert (up - float(evaluator(mask))) / (2 * step) == pytest.approx(float(g[kept].sum()), rel=1e-5)


def test_gradients_take_one_mask_and_one_number_a_sample(mlp):
    with pytest.raises(ValueError, match="one mask at a time"):
        Evaluator(mlp.model, mlp.data, backend="torch").gradients(mlp.masks(2))
    whole = Evaluator(mlp.model, mlp.data, lambda out, targets: out.mean(), backend="torch")
    with pytest.raises(ValueError, match="the objective must give one number a sample"):
        whole.gradients(mlp.masks(1))


def test_gradients_leave_threads_and_model_as_they_were(mlp):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        Evaluator(mlp.model, mlp.data, backend="torch").gradients(mlp.masks(1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert all(p.grad is None for p in mlp.model.parameters())
