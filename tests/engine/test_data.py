"""Calibration data in all its forms: fitness is the mean over samples, however they come."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from optprune_fast.engine.batches import Batch, collect, split
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.operators import random_masks


class Keywords(nn.Module):
    """Takes keywords and returns a mapping, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> dict[str, Tensor]:
        out = self.fc(x)
        return {"logits": out if scale is None else out * scale[:, None]}


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.fc(x) + y


X, Y, TARGETS = torch.randn(11, 6), torch.randn(11, 3), torch.arange(11) % 3


def fitness(model: nn.Module, data: object, **options) -> Tensor:
    evaluator = Evaluator(model, data, backend="torch", **options)
    return evaluator(random_masks(evaluator.layout, 9, [1, 2, 3]))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 10, 11, 99])
def test_a_loader_gives_the_mean_over_samples_however_it_batches(size: int):
    model = nn.Linear(6, 3)
    loader = DataLoader(TensorDataset(X, TARGETS), batch_size=size)
    assert torch.equal(fitness(model, loader), fitness(model, (X, TARGETS)))


def test_batches_that_do_not_merge_still_give_the_mean_over_samples():
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    parts = [(torch.randn(7, 1, 5), torch.ones(7, dtype=torch.int64)), (torch.randn(2, 1, 9), torch.tensor([0, 1]))]
    layout = Evaluator(model, parts, backend="torch").layout
    masks = random_masks(layout, 4, [1, 2])
    whole, first, second = (Evaluator(model, part, backend="torch")(masks) for part in (parts, parts[:1], parts[1:]))
    assert torch.allclose(whole, (7 * first + 2 * second) / 9)


@pytest.mark.parametrize("memory", [1, 2000, 20_000])
def test_chunks_change_results_by_rounding_alone(mlp, backend: str, memory: int):
    masks = mlp.masks(5)
    small = Evaluator(mlp.model, mlp.data, backend=backend, memory=memory)
    large = Evaluator(mlp.model, mlp.data, backend=backend)
    assert small.plan(5) != large.plan(5)
    assert torch.allclose(small(masks), large(masks), rtol=1e-5, atol=1e-6)
    assert torch.allclose(small.outputs(masks), large.outputs(masks), rtol=1e-5, atol=1e-5)
    for name, value in small.metrics(masks).items():
        assert torch.allclose(value, large.metrics(masks)[name], rtol=1e-5, atol=1e-6)


def test_several_inputs_are_positional():
    model = TwoInputs()
    assert torch.allclose(fitness(model, ((X, torch.zeros(11, 3)), TARGETS)), fitness(model.fc, (X, TARGETS)))
    assert not torch.allclose(fitness(model, ((X, Y), TARGETS)), fitness(model.fc, (X, TARGETS)))


@pytest.mark.parametrize("key", ["labels", "targets", "label", "target"])
def test_dict_batches_are_keywords_and_their_targets(key: str):
    model, plain = Keywords(), nn.Linear(6, 3)
    plain.load_state_dict(model.fc.state_dict())
    wanted = fitness(plain, (X, TARGETS))
    batch = {"x": X, key: TARGETS}
    assert torch.equal(fitness(model, batch), wanted)
    assert torch.equal(fitness(model, [{"x": X[:4], key: TARGETS[:4]}, {"x": X[4:], key: TARGETS[4:]}]), wanted)
    assert torch.equal(fitness(model, ({"x": X, "scale": torch.ones(11)}, TARGETS)), wanted)


def test_a_tensor_alone_has_no_targets():
    assert fitness(nn.Linear(6, 3), X, objective="kl_to_dense").shape == (3,)
    assert fitness(nn.Linear(6, 3), (X, None), objective="mse_to_dense").shape == (3,)


def test_what_has_no_entry_a_sample_is_passed_as_it_is():
    (batch,) = collect(({"x": X, "flag": True, "table": torch.zeros(4)}, TARGETS))
    piece = batch.pick(slice(2, 5))
    assert (piece.size, piece.kwargs["flag"], piece.kwargs["table"].shape) == (3, True, (4,))
    assert torch.equal(piece.kwargs["x"], X[2:5])
    assert torch.equal(piece.targets, TARGETS[2:5])


def test_a_held_out_part_and_the_rest_are_all_samples_once():
    rest, held = split(collect([(X[:7], TARGETS[:7]), (X[7:], TARGETS[7:])]), 0.3, seed=1)
    assert (sum(b.size for b in rest), sum(b.size for b in held)) == (8, 3)
    seen = torch.cat([b.args[0] for b in (*rest, *held)])
    assert torch.equal(seen.sort(0).values, X.sort(0).values)
    again = split(collect((X, TARGETS)), 0.3, seed=1)[1]
    assert torch.equal(again[0].args[0], held[0].args[0])
    with pytest.raises(ValueError, match="leaves one side empty"):
        split(rest, 0.01, seed=1)


@pytest.mark.parametrize(("data", "kind", "text"), [
    ([], ValueError, "at least one sample"),
    ((X[:0], TARGETS[:0]), ValueError, "at least one sample"),
    ((X.clone().index_fill_(0, torch.tensor([3]), float("nan")), TARGETS), ValueError, "must not hold NaN"),
    ((X, TARGETS[:5]), ValueError, "the same number of samples"),
    ((X, torch.tensor(3)), ValueError, "the same number of samples"),
    (3, TypeError, r"data must be \(inputs, targets\)"),
    (["ab"], TypeError, r"a batch is \(inputs, targets\), a tensor or a dict"),
    ({"flag": True}, TypeError, "a batch needs an input tensor"),
])
def test_data_that_cannot_be_read_is_an_error(data: object, kind: type[Exception], text: str):
    with pytest.raises(kind, match=text):
        Evaluator(nn.Linear(6, 3), data, backend="torch")


def test_batches_that_were_read_once_are_data_too():
    batches = collect((X, TARGETS))
    assert isinstance(batches[0], Batch)
    assert torch.equal(fitness(_linear(), batches),
                       fitness(_linear(), (X, TARGETS)))


def _linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(6, 3)
