"""Preconditioned conjugate gradients: solving with a matrix that is known by its products only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def pcg(product: Callable[[Tensor], Tensor], right: Tensor, diagonal: Tensor, steps: int,
        tolerance: float) -> tuple[Tensor, Tensor]:
    """Solve `A x = right` row by row, many systems side by side (Hestenes, Stiefel 1952).

    product:    float64 [O, I] -> A of each row times the row; symmetric, positive definite on what `right` spans
    right:      float64 [O, I]; zero where nothing is to be solved, and so are the products
    diagonal:   float64 [O, I], above zero: the preconditioner, A's own diagonal (Jacobi)
    steps:      at most
    tolerance:  a row is solved where its residual, measured by the preconditioner, has fallen by this factor
    returns:    (x, A x), from the start at zero; every step makes ½ xAx - right·x smaller, so early ends do no harm
    """
    x, applied = torch.zeros_like(right), torch.zeros_like(right)
    residual = right.clone()
    scaled = residual / diagonal
    direction = scaled
    size = (residual * scaled).sum(1, keepdim=True)
    goal = tolerance ** 2 * size
    for _ in range(steps):
        if bool((size <= goal).all()):
            break
        times = product(direction)
        curvature = (direction * times).sum(1, keepdim=True)
        # A row that is solved, or along which A is flat, rests.
        moves = (size > goal) & (curvature > 0)
        length = torch.where(moves, size / torch.where(moves, curvature, 1.0), 0.0)
        x += length * direction
        applied += length * times
        residual -= length * times
        scaled = residual / diagonal
        new = (residual * scaled).sum(1, keepdim=True)
        direction = scaled + torch.where(moves, new / torch.where(moves, size, 1.0), 0.0) * direction
        size = torch.where(moves, new, 0.0)
    return x, applied
