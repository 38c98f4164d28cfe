"""What cannot be evaluated is said at once, and `explain` says what ran where."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.forward import MaskedForward
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops import masked_linear
from optprune_fast.runtime.dispatch import Choice
from optprune_fast.runtime.errors import BackendError, FallbackWarning


def test_explain_names_layers_operations_backends_and_the_way(case, backend: str):
    text = Evaluator(case.model, case.data, backend=backend, plan=False).explain()
    assert f"backend  {backend} (asked for: {backend})" in text
    assert "way      vmap" in text
    assert "plan     plan=False" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
    for layer in MaskLayout.of(case.model):
        operation = "masked_linear" if len(layer.shape) == 2 else "masked_conv2d"
        assert rows[layer.name][1:4] == ["×".join(map(str, layer.shape)), operation, backend]


def test_explain_gives_the_reasons_of_faster_backends(mlp):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)  # on a machine that has torch alone, that is true and said
        text = Evaluator(mlp.model, mlp.data).explain()
    example = torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1, 1, dtype=torch.int64)
    reason = masked_linear.operation.reason("triton", *example)
    assert "(asked for: auto)" in text
    assert f"triton: {reason}" in text


@pytest.mark.skipif(masked_linear.operation.missing("numba") is not None, reason="needs Numba, which takes float64")
def test_explain_says_that_the_plan_runs_in_float32(mlp):
    mlp.model.double()
    text = Evaluator(mlp.model, (mlp.inputs.double(), mlp.targets), backend="numba").explain()
    assert "plan     the plan runs in float32, not in float64" in text


def test_explain_names_layers_that_the_model_does_not_use():
    model = nn.ModuleDict({"used": nn.Linear(3, 2), "idle": nn.Linear(3, 2)})
    model.forward = model["used"].forward
    text = Evaluator(model, (torch.zeros(2, 3), torch.tensor([0, 1])), backend="torch").explain()
    assert [line for line in text.splitlines() if line.startswith("idle.weight") and "not used by the model" in line]


def test_masks_of_another_layout_or_device_are_errors(mlp):
    evaluator = Evaluator(mlp.model, mlp.data, backend="torch")
    other = PackedMasks.full(MaskLayout.from_shapes({"w": (3, 3)}))
    far = PackedMasks.full(evaluator.layout).to("meta")
    for call in (evaluator, evaluator.outputs, evaluator.metrics, evaluator.gradients,
                 lambda masks: evaluator.moves(masks, torch.tensor([[0]])),
                 lambda masks: evaluator.accept(masks, torch.tensor([0]))):
        with pytest.raises(ValueError, match=r"masks of another layout[\s\S]*masks_n  9"):
            call(other)
        with pytest.raises(ValueError, match=r"masks must be on the model's device[\s\S]*masks\.to\('cpu'\)"):
            call(far)


@pytest.mark.parametrize(("targets", "text"), [
    (torch.full((11,), 5), r"targets must lie in \[0, 5\)[\s\S]*largest  5"),
    (torch.full((11,), -1), r"targets must lie in \[0, 5\)[\s\S]*smallest  -1"),
    (torch.zeros(11), "targets must be class indices"),
    (torch.zeros(11, dtype=torch.bool), "targets must be class indices"),
    (torch.zeros(11, 2, dtype=torch.int64), r"outputs must be \[B, classes, …\] and targets \[B, …\]"),
    (None, "it needs targets, and the data has none"),
])
@pytest.mark.parametrize("objective", ["cross_entropy", "error"])
def test_targets_that_the_outputs_do_not_have_are_errors(mlp, targets, text: str, objective: str):
    with pytest.raises(ValueError, match=text):
        Evaluator(mlp.model, (mlp.inputs, targets), objective, backend="torch")


def test_an_unknown_objective_is_an_error_that_lists_those_there_are(mlp):
    with pytest.raises(ValueError, match=r"unknown objective[\s\S]*cross_entropy, error, kl_to_dense, mse_to_dense"):
        Evaluator(mlp.model, mlp.data, "accuracy", backend="torch")


def test_a_callable_must_give_a_number_a_sample_or_one_for_all(mlp):
    with pytest.raises(ValueError, match="one number a sample, or one number for all"):
        Evaluator(mlp.model, mlp.data, lambda outputs, targets: outputs[:1, :2].flatten().tolist(), backend="torch")


def test_an_unknown_backend_is_an_error_that_lists_those_there_are(mlp):
    with pytest.raises(ValueError, match="backend must be one of auto, cuda, triton, native, numba, torch, not 'gpu'"):
        Evaluator(mlp.model, mlp.data, backend="gpu")


@pytest.mark.parametrize("name", ["triton", "cuda"])
def test_a_backend_that_cannot_run_here_is_an_error_and_no_fallback(mlp, name: str):
    with pytest.raises(BackendError, match=rf"backend='{name}' cannot serve[\s\S]*{name}: "):
        Evaluator(mlp.model, mlp.data, backend=name)


@pytest.mark.parametrize("name", [b for b in ("native", "numba", "torch") if not masked_linear.operation.missing(b)])
def test_a_precision_is_an_error_where_there_is_no_choice_of_one(mlp, name: str):
    with pytest.raises(BackendError, match=rf"backend='{name}' cannot serve[\s\S]*{name}: has no choice of precision"):
        Evaluator(mlp.model, mlp.data, backend=name, precision="tf32")
    with pytest.raises(ValueError, match="precision must be one of fp32, tf32x3, tf32, fp16, bf16"):
        Evaluator(mlp.model, mlp.data, backend=name, precision="float32")


def test_on_a_gpu_whole_networks_go_to_triton_though_a_single_layer_may_go_elsewhere(mlp, monkeypatch):
    forward = MaskedForward(mlp.model, MaskLayout.of(mlp.model), "auto")
    operation = masked_linear.operation
    monkeypatch.setattr(operation, "resolve", lambda *tensors, backend: Choice("cuda", lambda: None, {}))
    monkeypatch.setattr(operation, "reason", lambda backend, *tensors: None)
    assert (forward.resolve(whole=True), forward.resolve()) == ("triton", "cuda")
    monkeypatch.setattr(operation, "reason", lambda backend, *tensors: "no such GPU")
    assert forward.resolve(whole=True) == "cuda"
    monkeypatch.setattr(operation, "reason", lambda backend, *tensors: None)
    monkeypatch.setenv("OPTPRUNE_BACKEND", "cuda")
    assert forward.resolve(whole=True) == "cuda"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_an_error_that_names_the_layer(mlp, bad: float):
    mlp.model.layers[1].weight.data[1, 1] = bad
    with pytest.raises(ValueError, match=r"weights must be finite\n  layer  'layers\.1\.weight'"):
        Evaluator(mlp.model, mlp.data, backend="torch")


def test_a_model_without_prunable_weights_is_an_error():
    with pytest.raises(ValueError, match="nothing to prune is left"):
        Evaluator(nn.LayerNorm(3), (torch.zeros(2, 3), torch.tensor([0, 1])), backend="torch")


def test_a_model_must_return_a_tensor():
    model = nn.Linear(3, 2)
    model.forward = lambda x: "logits"
    with pytest.raises(TypeError, match="the model must return a tensor"):
        Evaluator(model, (torch.zeros(2, 3), torch.tensor([0, 1])), backend="torch")
