"""Tied weights are masked wherever they are used; batches may differ in shape; outputs must suit the objective."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import optprune_fast as opf


class TiedLanguageModel(nn.Module):
    """Tokens [B, T] to classes [B, C, T]; the output layer is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.hidden = nn.Linear(6, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.embedding(tokens)))).transpose(1, 2)


def tokens(samples: int, length: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    return tuple(torch.randint(11, (samples, length), generator=generator) for _ in range(2))  # type: ignore[return-value]


@pytest.fixture
def model() -> TiedLanguageModel:
    torch.manual_seed(0)
    return TiedLanguageModel()


def test_a_tied_weight_is_counted_once_and_masked_under_both_names(model: TiedLanguageModel) -> None:
    data = tokens(4, 5)
    ev = opf.Evaluator(model, data)
    assert ev.layout.n == 66 + 36
    mask = opf.random_masks(ev.layout, 40, [1])
    pruned = TiedLanguageModel()
    pruned.load_state_dict(model.state_dict())
    with torch.no_grad():
        for name, bits in mask.to_dense().items():
            pruned.get_parameter(name).mul_(bits[0])
        assert pruned.head.weight is pruned.embedding.weight
        expected = pruned(data[0])
    torch.testing.assert_close(ev.outputs(mask)[0], expected)


def test_sequences_of_different_lengths_are_averaged_over_samples(model: TiedLanguageModel) -> None:
    batches = [tokens(3, 5), tokens(2, 9)]
    ev = opf.Evaluator(model, batches)
    losses = [F.cross_entropy(model(x), y, reduction="none").mean(1) for x, y in batches]
    torch.testing.assert_close(ev(opf.PackedMasks.full(ev.layout)), torch.cat(losses).mean().detach().reshape(1))


def test_a_later_batch_with_an_unknown_class_is_refused(model: TiedLanguageModel) -> None:
    x, y = tokens(2, 9)
    with pytest.raises(ValueError, match=r"(?s)targets must lie in \[0, 11\).*largest  11"):
        opf.Evaluator(model, [tokens(3, 5), (x, y.clamp(min=1).index_fill(1, torch.tensor([0]), 11))])


def test_kl_needs_classes() -> None:
    net = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    with pytest.raises(ValueError, match=r"(?s)'kl_to_dense'.*outputs must be \[B, classes, …\].*mse_to_dense"):
        opf.Evaluator(net, torch.randn(5, 4), "kl_to_dense")
    ev = opf.Evaluator(net, torch.randn(5, 4), "mse_to_dense")
    assert float(ev(opf.PackedMasks.full(ev.layout))) < 1e-10  # the kernels and torch round differently
