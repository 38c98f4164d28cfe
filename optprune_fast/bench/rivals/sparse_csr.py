"""torch's sparse CSR matrices, one built for each candidate and layer; linear layers on plain vectors."""

from __future__ import annotations

import copy
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optprune_fast.bench.problem import Masks, Problem
from optprune_fast.bench.rival import Prepared
from optprune_fast.plan.model import logits


class CsrLinear(nn.Module):
    """A linear layer with a CSR matrix by torch's fastest call: `F.linear` takes CSR too, at four times the cost."""

    def __init__(self, bias: Tensor | None) -> None:
        super().__init__()
        self.bias = None if bias is None else bias.detach()
        self.matrix: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        assert self.matrix is not None
        out = self.matrix @ x.T if self.bias is None else torch.addmm(self.bias[:, None], self.matrix, x.T)
        return out.T


def declines(problem: Problem) -> str | None:
    if not all(isinstance(layer, nn.Linear) for layer in problem.layers.values()):
        return "linear layers only"
    if problem.uses is None or set(problem.uses.values()) != {1}:
        return "linear layers on [B, features] only"
    return None


def prepare(problem: Problem, masks: Masks) -> Prepared:
    model = copy.deepcopy(problem.model)
    places = {}
    for name, layer in problem.layers.items():
        owner, _, attribute = name.removesuffix(".weight").rpartition(".")
        places[name] = CsrLinear(layer.bias)  # type: ignore[arg-type]
        if name == "weight":  # the model is that one layer
            model = places[name]
        else:
            setattr(model.get_submodule(owner), attribute, places[name])

    @torch.inference_mode()
    def fitness(masks: Masks) -> Tensor:
        losses = []
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            for p in range(len(masks)):
                for name, weight in problem.weights.items():
                    places[name].matrix = (weight * masks.dense[name][p]).to_sparse_csr()
                losses.append(F.cross_entropy(logits(model(problem.inputs)), problem.targets))
        return torch.stack(losses)

    return Prepared(fitness)
