"""Outputs, fitness and metrics are those of a plain loop over candidates, for every network and every backend."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.dispatch import calls
from optprune_fast.testing.tolerance import assert_as_accurate


def objective_of(name: str, outputs: Tensor, targets: Tensor, dense: Tensor) -> Tensor:
    """The meaning of an objective, written without the engine: [P] from outputs [P, B, C]."""
    if name == "cross_entropy":
        return torch.stack([F.cross_entropy(out, targets) for out in outputs])
    if name == "error":
        return torch.stack([(out.argmax(1) != targets).to(out.dtype).mean() for out in outputs])
    if name == "kl_to_dense":
        wanted = dense.softmax(1)
        return torch.stack([F.kl_div(out.log_softmax(1), wanted, reduction="batchmean") for out in outputs])
    return torch.stack([F.mse_loss(out, dense) for out in outputs])


def terms_of(case) -> int:
    """Products that errors pass through one after the other: a row of each layer."""
    return sum(layer.columns for layer in MaskLayout.of(case.model))


def close(ours: Tensor, same: Tensor, exact: Tensor, case) -> None:
    assert_as_accurate(ours, same, exact, terms=terms_of(case), magnitude=max(1.0, float(exact.abs().max())))


def test_outputs_are_those_of_a_loop(case, backend: str):
    masks = case.masks()
    evaluator = Evaluator(case.model, case.data, backend=backend, plan=False)
    before = calls["masked_linear", backend]
    outputs = evaluator.outputs(masks)
    assert calls["masked_linear", backend] > before
    assert evaluator._forward.way == "vmap"
    close(outputs, case.loop(masks, torch.float32), case.loop(masks), case)


def test_fitness_and_metrics_are_those_of_a_loop(case, backend: str):
    masks = case.masks()
    same, exact = case.loop(masks, torch.float32), case.loop(masks)
    evaluator = Evaluator(case.model, case.data, backend=backend)
    wanted = [objective_of("cross_entropy", out, case.targets, out) for out in (same, exact)]
    close(evaluator(masks), *wanted, case)
    metrics = evaluator.metrics(masks)
    assert set(metrics) == {"loss", "accuracy", "cross_entropy"}
    assert torch.equal(metrics["loss"], evaluator(masks))
    close(metrics["cross_entropy"], *wanted, case)
    assert torch.allclose(metrics["accuracy"].double(), 1 - objective_of("error", exact, case.targets, exact))


@pytest.mark.parametrize("objective", ["cross_entropy", "error", "kl_to_dense", "mse_to_dense"])
def test_every_objective_is_what_its_name_says(mlp, backend: str, objective: str):
    masks = mlp.masks()
    wanted = []
    for dtype in (torch.float32, torch.float64):
        out = mlp.loop(masks, dtype)
        with torch.no_grad():
            wanted.append(objective_of(objective, out, mlp.targets, mlp.model.to(dtype)(mlp.inputs.to(dtype))))
    mlp.model.float()
    evaluator = Evaluator(mlp.model, mlp.data, objective, backend=backend)
    close(evaluator(masks), *wanted, mlp)
    assert torch.equal(evaluator.metrics(masks)["loss"], evaluator(masks))


def test_a_callable_gives_one_number_a_sample(mlp, backend: str):
    def margin(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.max(1).values - outputs.gather(1, targets[:, None])[:, 0]

    masks = mlp.masks()
    same, exact = (torch.stack([margin(out, mlp.targets).mean() for out in mlp.loop(masks, dtype)])
                   for dtype in (torch.float32, torch.float64))
    evaluator = Evaluator(mlp.model, mlp.data, margin, backend=backend)
    assert evaluator.objective.name == "margin"
    close(evaluator(masks), same, exact, mlp)


def test_a_callable_gives_one_number_for_all_samples(mlp, backend: str):
    seen = []

    def largest(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(outputs.shape[0])
        return outputs.abs().max()

    masks = mlp.masks()
    same, exact = (mlp.loop(masks, dtype).abs().flatten(1).amax(1) for dtype in (torch.float32, torch.float64))
    evaluator = Evaluator(mlp.model, mlp.data, largest, backend=backend)
    seen.clear()
    close(evaluator(masks), same, exact, mlp)
    assert seen == [11, 11, 11]  # all samples at once, once a candidate
    assert torch.equal(evaluator.metrics(masks)["loss"], evaluator(masks))


@pytest.mark.parametrize("P", [0, 1])
def test_no_mask_and_one_mask(mlp, backend: str, P: int):
    evaluator = Evaluator(mlp.model, mlp.data, backend=backend)
    every = mlp.masks(3)
    masks = every[:P]
    assert torch.equal(evaluator(masks), evaluator(every)[:P])
    assert torch.equal(evaluator.outputs(masks), evaluator.outputs(every)[:P])
    assert evaluator.outputs(masks).shape == (P, 11, 5)
    assert all(value.shape == (P,) for value in evaluator.metrics(masks).values())


def test_float64_models_are_evaluated_in_float64(mlp):
    masks = mlp.masks()
    evaluator = Evaluator(mlp.model.double(), (mlp.inputs.double(), mlp.targets), backend="torch")
    assert evaluator(masks).dtype == torch.float64
    assert torch.allclose(evaluator.outputs(masks), mlp.loop(masks), rtol=1e-12, atol=1e-12)


def test_a_mask_that_keeps_everything_gives_the_dense_network(mlp, backend: str):
    full = PackedMasks.full(MaskLayout.of(mlp.model))
    with torch.no_grad():
        dense = mlp.model(mlp.inputs)
    close(Evaluator(mlp.model, mlp.data, backend=backend).outputs(full)[0], dense, mlp.loop(full)[0], mlp)
