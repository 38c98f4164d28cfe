"""The model is never changed, its weights are a snapshot, and what vmap cannot run is evaluated all the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import EvaluationWarning


class Asks(nn.Module):
    """Looks at a value, which vmap cannot allow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x.relu() if x.abs().max().item() > 0 else x)


class Attends(nn.Module):
    """The projection weight of nn.MultiheadAttention is used in pieces, so it must become dense."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def moody() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


X, TARGETS = torch.randn(9, 6, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 3


def use(evaluator: Evaluator) -> None:
    masks = random_masks(evaluator.layout, evaluator.layout.n // 2, [1, 2])
    evaluator(masks), evaluator.outputs(masks), evaluator.metrics(masks)
    evaluator.moves(masks[0], torch.tensor([[0, 1]])), evaluator.gradients(masks[0])
    evaluator.refresh()


def test_the_model_is_bit_for_bit_what_it_was(case):
    before = {name: value.clone() for name, value in case.model.state_dict().items()}
    use(Evaluator(case.model, case.data, backend="torch"))
    after = case.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(type(p) is nn.Parameter and p.requires_grad and p.grad is None for p in case.model.parameters())


def test_train_mode_is_said_evaluated_in_eval_mode_and_restored():
    model = moody().train()
    model[3].eval()
    modes = [m.training for m in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.warns(EvaluationWarning, match="train mode and has BatchNorm1d, Dropout: it is evaluated in eval mode"):
        evaluator = Evaluator(model, (X, TARGETS), backend="torch")
    use(evaluator)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    masks = random_masks(evaluator.layout, 30, [1, 2])
    assert torch.equal(evaluator(masks), Evaluator(moody().eval(), (X, TARGETS), backend="torch")(masks))


def test_modes_are_restored_after_an_error_in_the_model():
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 3)
            self.broken = False

        def forward(self, x: Tensor) -> Tensor:
            if self.broken:
                raise RuntimeError("the model's own error")
            return self.fc(x)

    model = Fails().train()
    evaluator = Evaluator(model, (X, TARGETS), backend="torch")
    model.broken = True
    with pytest.raises(RuntimeError, match="the model's own error"):
        evaluator(PackedMasks.full(evaluator.layout))
    assert all(m.training for m in model.modules())
    with pytest.raises(RuntimeError, match="the model's own error"):
        Evaluator(model, (X, TARGETS), backend="torch")


def test_weights_are_a_snapshot_until_refreshed(mlp):
    evaluator = Evaluator(mlp.model, mlp.data, "kl_to_dense", backend="torch")
    masks = mlp.masks()
    before = evaluator(masks)
    with torch.no_grad():
        mlp.model.layers[0].weight.mul_(-2)
    assert torch.equal(evaluator(masks), before)
    evaluator.refresh()
    assert torch.equal(evaluator.weights["layers.0.weight"], mlp.model.layers[0].weight)
    assert torch.equal(evaluator(masks), Evaluator(mlp.model, mlp.data, "kl_to_dense", backend="torch")(masks))
    assert not torch.equal(evaluator(masks), before)


def test_refresh_refuses_weights_that_are_not_finite(mlp):
    evaluator = Evaluator(mlp.model, mlp.data, backend="torch")
    mlp.model.layers[1].weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"weights must be finite\n  layer  'layers\.1\.weight'"):
        evaluator.refresh()


def test_a_model_that_vmap_cannot_run_is_looped_over_and_said(backend: str, plain_loop):
    model = Asks()
    with pytest.warns(EvaluationWarning, match="vmap cannot run this model, so candidates are evaluated one at a time"):
        evaluator = Evaluator(model, (X, TARGETS), backend=backend)
    masks = random_masks(evaluator.layout, 20, [1, 2, 3])
    assert "way      loop: " in evaluator.explain()
    assert torch.allclose(evaluator.outputs(masks).double(), plain_loop(model, masks, X), atol=1e-6)


def test_a_weight_used_in_another_way_becomes_dense(backend: str, plain_loop):
    torch.manual_seed(3)
    model, x = Attends().eval(), torch.randn(4, 5, 8)
    evaluator = Evaluator(model, (x, torch.tensor([0, 1, 2, 0])), backend=backend)
    names = [layer.name for layer in evaluator.layout]
    masks = random_masks(evaluator.layout, evaluator.layout.n // 2, [1, 2, 3])
    assert "attention.out_proj.weight" in names
    assert torch.allclose(evaluator.outputs(masks).double(), plain_loop(model, masks, x), atol=1e-6)


def test_multihead_attention_can_prune_its_projection(plain_loop):
    torch.manual_seed(3)
    model, x = Attends().eval(), torch.randn(4, 5, 8)
    layout = MaskLayout.of(model, include="attention.in_proj_weight")
    evaluator = Evaluator(model, (x, torch.tensor([0, 1, 2, 0])), backend="torch", layout=layout)
    masks = random_masks(layout, 90, [1, 2, 3])
    assert torch.allclose(evaluator.outputs(masks).double(), plain_loop(model, masks, x), atol=1e-6)
    assert "dense weight in" in evaluator.explain()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # torch's dense pass says so
@pytest.mark.parametrize("options", [{}, {"padding": "same"}, {"padding": "valid"},
                                     {"stride": 2, "padding": 3, "dilation": 2, "groups": 2, "bias": False}])
def test_convolutions_along_one_axis_work(backend: str, plain_loop, options: dict):
    torch.manual_seed(4)
    model = nn.Sequential(nn.Conv1d(4, 6, 4, **options), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    x = torch.randn(3, 4, 17)
    evaluator = Evaluator(model, (x, torch.tensor([0, 5, 2])), backend=backend)
    masks = random_masks(evaluator.layout, evaluator.layout.n // 2, [1, 2, 3])
    assert "conv2d" in evaluator.explain()
    assert torch.allclose(evaluator.outputs(masks).double(), plain_loop(model, masks, x), atol=1e-6)


def test_a_module_under_two_names_keeps_its_own_weight(backend: str):
    torch.manual_seed(5)
    layer = nn.Linear(6, 6)
    model = nn.Sequential(layer, nn.ReLU(), layer).eval()
    weight, x = layer.weight, torch.randn(4, 6)
    evaluator = Evaluator(model, (x, torch.tensor([0, 1, 2, 5])), backend=backend)
    masks = random_masks(evaluator.layout, 18, [1, 2])
    outputs = evaluator.outputs(masks)
    assert layer.weight is weight
    for mask, out in zip(masks.to_dense()["0.weight"], outputs, strict=True):
        hidden = nn.functional.linear(x, weight * mask, layer.bias).relu()
        assert torch.allclose(out, nn.functional.linear(hidden, weight * mask, layer.bias), atol=1e-6)
