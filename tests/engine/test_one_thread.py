"""Gradients are taken on one thread, since torch's matrix products round differently on several."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import optprune_fast as opf


def test_gradients_run_on_one_thread_and_give_the_others_back() -> None:
    seen: list[int] = []

    def objective(outputs: Tensor, targets: Tensor | None) -> Tensor:
        assert targets is not None
        seen.append(torch.get_num_threads())
        return F.cross_entropy(outputs, targets, reduction="none")

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ev = opf.Evaluator(nn.Linear(4, 3), (torch.randn(5, 4), torch.randint(3, (5,))), objective)
        seen.clear()
        ev.gradients(opf.PackedMasks.full(ev.layout))
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
