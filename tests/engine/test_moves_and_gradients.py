"""Moves are evaluations of neighbours; gradients follow the objective, however they are chunked."""

from __future__ import annotations

import re

import pytest
import torch

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.operators import swap

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


def test_moves_that_keep_the_budget_are_moves(mlp):
    evaluator = Evaluator(mlp.model, mlp.data, backend="torch")
    parent = mlp.masks(1)
    kept, dropped = (mask.indices() for mask in (parent, ~parent))
    moves = torch.stack([kept[:6], dropped[:6]], 1)
    moves[4:] = torch.tensor([[int(kept[0]), int(dropped[-1])], [-1, -1]])
    assert torch.equal(evaluator.moves(parent, moves, keep_budget=True), evaluator.moves(parent, moves))
    child = evaluator.accept(parent, moves[4], keep_budget=True)
    assert child == swap(parent, moves[4:5])
    assert child.count() == parent.count()


@pytest.mark.parametrize("change", [1, -1, 2])
def test_a_move_that_breaks_the_budget_is_an_error_when_asked(mlp, change: int, monkeypatch):
    evaluator = Evaluator(mlp.model, mlp.data, backend="torch")
    parent = mlp.masks(1)
    kept, dropped = (mask.indices().tolist() for mask in (parent, ~parent))
    bad = [dropped[3], -1, kept[2], dropped[9]] if change == 1 else [-1, kept[70], -1, -1] if change == -1 else [
        -1, -1, dropped[0], dropped[1]]
    moves = torch.tensor([[kept[0], dropped[0], -1, -1], [-1, -1, -1, -1], bad, [kept[5], -1, -1, -1]])
    assert evaluator.moves(parent, moves).shape == (4,)  # nobody asked
    assert evaluator.accept(parent, moves[2]).count() == parent.count() + change
    monkeypatch.setattr(evaluator, "_forward", None)  # so that any work would fail
    monkeypatch.setattr(Evaluator, "_check", lambda *_: None)
    flips = re.escape(str([flip for flip in bad if flip >= 0]))
    said = rf"drop as many weights as it adds[\s\S]*move  2\n  flips  {flips}\n  change  {change}\n"
    with pytest.raises(ValueError, match=said):
        evaluator.moves(parent, moves, keep_budget=True)
    with pytest.raises(ValueError, match=said.replace("move  2", "move  0")):
        evaluator.accept(parent, moves[2], keep_budget=True)


def test_flips_that_the_layout_does_not_have_are_errors(mlp):
    evaluator = Evaluator(mlp.model, mlp.data, backend="torch")
    parent, n = mlp.masks(1), evaluator.layout.n
    for call in (lambda flip: evaluator.moves(parent, torch.tensor([[0, flip]])),
                 lambda flip: evaluator.moves(parent, torch.tensor([[0, flip]]), keep_budget=True),
                 lambda flip: evaluator.accept(parent, torch.tensor([0, flip]))):
        with pytest.raises(ValueError, match=rf"indices must lie in \[0, {n}\)[\s\S]*largest  {n}"):
            call(n)
        with pytest.raises(ValueError, match=r"or be -1 to fill[\s\S]*smallest  -2"):
            call(-2)


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
